/* One value at a time, in double precision, where a product with a power of two is exact for every
 * float: one conversion, one floor and one increment each. Four tables, because an increment waits
 * for the one before it when both meet in one bin. */
#include "histogram.h"

#include <string.h>

static double power_of_two_portable(int32_t exponent)
{
    double power = 1;
    for (; exponent > 0; exponent--)
        power *= 2;
    for (; exponent < 0; exponent++)
        power *= 0.5;
    return power;
}

int64_t qsdk_histogram_portable(const float *x, size_t n, int32_t bins, int32_t exponent,
                                uint32_t *tables, int64_t *counts)
{
    const double factor = bins * power_of_two_portable(-exponent);
    const size_t width = 2 * (size_t)bins + 1;
    int64_t zeros = 0;
    while (n) {
        const size_t block = n < QSDK_HISTOGRAM_BLOCK ? n : QSDK_HISTOGRAM_BLOCK;
        memset(tables, 0, 4 * width * sizeof *tables);
        for (size_t i = 0; i < block; i++) {
            const double place = x[i] * factor;
            const int32_t whole = (int32_t)place;
            const int32_t index = whole - (whole > place) + bins;
            tables[(i & 3) * width + (x[i] == 0 ? width - 1 : (size_t)index)]++;
        }
        zeros += qsdk_histogram_collect_portable(tables, bins, counts);
        x += block;
        n -= block;
    }
    return zeros;
}
