/* The histogram of a stream, which is read from memory once: the range of a block, then its counts
 * while the next block is on its way into the cache. Where a block leaves the range, that doubles
 * until it holds; bins nest, so the counts are those of the last range from the start on. */
#include "arrays.h"

#include <string.h>

enum { BLOCK = 8192 }; /* values: 32 KB */
#define MOST ((size_t)1 << 31) /* that a table can count */

/* k with 2^(k - 1) <= size < 2^k, of a finite size above 0. */
static int32_t exponent_portable(float size)
{
    uint32_t bits;
    memcpy(&bits, &size, sizeof bits);
    if (bits >> 23)
        return (int32_t)(bits >> 23) - 126;
    int32_t exponent = -149; /* mantissa * 2^-149 */
    for (; bits; bits >>= 1)
        exponent++;
    return exponent;
}

static struct qsdk_bins bins_portable(int32_t bins, int32_t exponent)
{
    double exact = bins;
    for (; exponent > 0; exponent--)
        exact *= 0.5;
    for (; exponent < 0; exponent++)
        exact *= 2;
    return (struct qsdk_bins){bins, exact < 0x1p100 ? (float)exact : 0, exact};
}

/* What the tables counted is added to counts, and they begin anew; returns the zeros. */
static int64_t collect_portable(uint32_t *tables, int32_t bins, int64_t *counts)
{
    const size_t last = 2 * (size_t)bins, width = last + QSDK_ZERO_PLACES;
    const uint32_t *a = tables, *b = a + width, *c = b + width, *d = c + width;
    for (size_t i = 0; i < last; i++)
        counts[i] += (int64_t)a[i] + b[i] + c[i] + d[i];
    int64_t zeros = 0;
    for (size_t i = last; i < width; i++)
        zeros += (int64_t)a[i] + b[i] + c[i] + d[i];
    memset(tables, 0, 4 * width * sizeof *tables);
    return zeros;
}

/* The range doubles: pairs of bins become one, about the middle. */
static void double_portable(int64_t *counts, int32_t bins)
{
    const size_t n = (size_t)bins, quarter = n / 2;
    for (size_t j = quarter; j-- > 0;)
        counts[quarter + j] = counts[2 * j] + counts[2 * j + 1];
    for (size_t j = quarter; j < n; j++)
        counts[quarter + j] = counts[2 * j] + counts[2 * j + 1];
    memset(counts, 0, quarter * sizeof *counts);
    memset(counts + n + quarter, 0, quarter * sizeof *counts);
}

/* From the range seen so far to one that holds `exponent`. */
static void widen_portable(int32_t exponent, int32_t bins, uint32_t *tables, int64_t *counts,
                           struct qsdk_histogram *seen)
{
    if (seen->exponent != INT32_MIN) {
        seen->zeros += collect_portable(tables, bins, counts);
        for (; seen->exponent < exponent; seen->exponent++)
            double_portable(counts, bins);
    }
    seen->exponent = exponent;
}

int qsdk_histogram_portable(const struct qsdk_arrays *set, const float *x, size_t n, int32_t bins,
                            uint32_t *tables, int64_t *counts, struct qsdk_histogram *seen)
{
    struct qsdk_bins grid = bins_portable(bins, 0);
    *seen = (struct qsdk_histogram){QSDK_INFINITY, -QSDK_INFINITY, INT32_MIN, 0};
    memset(tables, 0, 4 * (2 * (size_t)bins + QSDK_ZERO_PLACES) * sizeof *tables);
    memset(counts, 0, 2 * (size_t)bins * sizeof *counts);
    for (size_t i = 0, counted = 0; i < n; i += BLOCK) {
        const size_t some = n - i < BLOCK ? n - i : BLOCK;
        float low, high;
        if (!set->range_rows(x + i, 1, some, &low, &high))
            return 0;
        seen->low = low < seen->low ? low : seen->low;
        seen->high = high > seen->high ? high : seen->high;
        const float size = -low > high ? -low : high;
        if (size > 0 && exponent_portable(size) > seen->exponent) {
            widen_portable(exponent_portable(size), bins, tables, counts, seen);
            grid = bins_portable(bins, seen->exponent);
        }
        set->count(x + i, some, &grid, tables, n - i < 2 * BLOCK ? 0 : BLOCK);
        counted += some;
        if (counted > MOST) {
            seen->zeros += collect_portable(tables, bins, counts);
            counted = 0;
        }
    }
    seen->zeros += collect_portable(tables, bins, counts);
    return 1;
}

/* What was counted afresh is added to what was counted before, over the larger of both ranges. */
static void add_portable(struct qsdk_counting *to, int64_t *fresh, struct qsdk_histogram *seen)
{
    *to->zeros += seen->zeros;
    if (seen->exponent == INT32_MIN)
        return;
    if (*to->exponent == INT32_MIN)
        *to->exponent = seen->exponent;
    for (; *to->exponent < seen->exponent; ++*to->exponent)
        double_portable(to->counts, to->bins);
    for (; seen->exponent < *to->exponent; seen->exponent++)
        double_portable(fresh, to->bins);
    for (size_t i = 0; i < 2 * (size_t)to->bins; i++)
        to->counts[i] += fresh[i];
}

void qsdk_histogram_each_portable(const struct qsdk_arrays *set, struct qsdk_counting *each,
                                  size_t count, uint32_t *tables, int64_t *fresh)
{
    for (size_t i = 0; i < count; i++) {
        struct qsdk_counting *const one = each + i;
        struct qsdk_histogram seen;
        one->is_finite =
            qsdk_histogram_portable(set, one->x, one->n, one->bins, tables, fresh, &seen);
        if (!one->is_finite)
            continue;
        one->low = seen.low;
        one->high = seen.high;
        add_portable(one, fresh, &seen);
    }
}
