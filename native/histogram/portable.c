/* One value at a time, in double precision, where a product with a power of two is exact for every
 * float: one conversion, one floor and one increment each. */
#include "histogram.h"

void qsdk_count_portable(const float *x, size_t n, const struct qsdk_bins *bins, uint32_t *tables,
                         size_t ahead)
{
    const size_t width = 2 * (size_t)bins->bins + QSDK_ZERO_PLACES;
    (void)ahead;
    for (size_t i = 0; i < n; i++) {
        const double place = x[i] * bins->exact;
        const int32_t whole = (int32_t)place;
        const int32_t index = whole - (whole > place) + bins->bins;
        tables[(i & 3) * width + (x[i] == 0 ? 2 * (size_t)bins->bins : (size_t)index)]++;
    }
}
