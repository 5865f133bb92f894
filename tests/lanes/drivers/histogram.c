/* The histogram on seeded inputs, against exact arithmetic on the bits of the floats. */
#include "driver.h"
#include "arrays.h"

#include <math.h>

static const struct qsdk_arrays *set; /* under test */

/* floor(x * bins / 2^exponent) from mantissa and exponent of x, in integers; bins = 2^log_bins. */
static int64_t oracle_place(float x, int log_bins, int exponent)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int stored = (int)(bits >> 23 & 255);
    const int64_t mantissa = (int64_t)(bits & 0x7fffff) | (stored ? 0x800000 : 0);
    const int shift = (stored ? stored : 1) - 150 + log_bins - exponent; /* x = mantissa * 2^... */
    const int64_t size = shift >= 0 ? mantissa << shift : shift < -62 ? 0 : mantissa >> -shift;
    const int inexact = shift < 0 && (shift < -62 || (size << -shift) != mantissa);
    return bits >> 31 ? -size - inexact : size;
}

/* Any float below 2^exponent; many zeros and edges of bins among them. */
static float value_below(int exponent)
{
    const int stored = exponent + 126 - (int)draw(draw(2) ? 12 : 200);
    uint32_t bits = draw(2) << 31 | (uint32_t)(stored > 0 ? stored : 0) << 23;
    bits |= stored < 0 ? draw(2) : draw(3) ? draw(1 << 23) : draw(8) << 20;
    float x;
    memcpy(&x, &bits, sizeof x);
    const uint32_t size = bits & 0x7fffffff;
    const int below = exponent > -126 || size < (uint32_t)1 << (exponent + 149);
    return draw(6) && below ? x : 0;
}

/* The least k with |x| < 2^k, from the bits. */
static int oracle_exponent(float x)
{
    int exponent = -148;
    while (fabs((double)x) >= ldexp(1, exponent))
        exponent++;
    return exponent;
}

/* Values whose size grows by `growth` from one end to the other, so that the range doubles on the way. */
static void try_histogram(size_t n, int log_bins, int exponent, int growth)
{
    const int32_t bins = 1 << log_bins;
    const size_t counts_bytes = 2 * (size_t)bins * sizeof(int64_t);
    float *x = guarded(0, n * sizeof *x), low = INFINITY, high = -INFINITY;
    uint32_t *tables = guarded(1, 4 * (2 * (size_t)bins + QSDK_ZERO_PLACES) * sizeof *tables);
    int64_t *counts = guarded(2, counts_bytes), *oracle = guarded(3, counts_bytes), zeros = 0;
    struct qsdk_histogram seen;
    int largest = INT32_MIN;
    memset(oracle, 0, counts_bytes);
    for (size_t i = 0; i < n; i++) {
        const int below = exponent - growth + (int)((size_t)growth * (i + 1) / (n ? n : 1));
        x[i] = value_below(below < -148 ? -148 : below);
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (n && (low != 0 || high != 0))
        largest = oracle_exponent(-low > high ? -low : high);
    for (size_t i = 0; i < n; i++)
        if (x[i] == 0)
            zeros++;
        else
            oracle[oracle_place(x[i], log_bins, largest) + bins]++;
    int right = qsdk_histogram_portable(set, x, n, bins, tables, counts, &seen);
    right &= !memcmp(counts, oracle, counts_bytes) && seen.zeros == zeros;
    right &= seen.exponent == largest && seen.low == low && seen.high == high;
    expect(right, set->name, (long)n, log_bins, exponent);
    int64_t *fresh = guarded(4, counts_bytes);
    const size_t first = draw((uint32_t)n + 1);
    int32_t reached = INT32_MIN;
    int64_t met = 0;
    memset(counts, 0, counts_bytes);
    struct qsdk_counting pieces[] = {
        {x, first, counts, &met, &reached, bins, 0, 0, 0},
        {x + first, n - first, counts, &met, &reached, bins, 0, 0, 0},
    };
    qsdk_histogram_each_portable(set, pieces, 2, tables, fresh);
    right = pieces[0].is_finite && pieces[1].is_finite && met == zeros && reached == largest;
    right &= !memcmp(counts, oracle, counts_bytes);
    right &= low == (pieces[0].low < pieces[1].low ? pieces[0].low : pieces[1].low);
    right &= high == (pieces[0].high > pieces[1].high ? pieces[0].high : pieces[1].high);
    expect(right, "in two pieces", (long)n, log_bins, exponent);
    if (n) {
        x[draw((uint32_t)n)] = draw(2) ? NAN : -INFINITY;
        right = !qsdk_histogram_portable(set, x, n, bins, tables, counts, &seen);
        expect(right, "not finite", (long)n, log_bins, exponent);
        pieces[0].n = n;
        memcpy(counts, oracle, counts_bytes);
        qsdk_histogram_each_portable(set, pieces, 1, tables, fresh);
        right = !pieces[0].is_finite && met == zeros && reached == largest;
        right &= !memcmp(counts, oracle, counts_bytes);
        expect(right, "not finite, added", (long)n, log_bins, exponent);
    }
}

static void try_all(void)
{
    static const size_t blocks[] = {8191, 8192, 8193, 8224, 24576, 50001};
    for (int exponent = -148; exponent <= 128; exponent += 3)
        for (size_t n = 0; n < 200; n += 1 + n / 40)
            for (int log_bins = 1; log_bins <= 12; log_bins += 3)
                try_histogram(n, log_bins, exponent, 0);
    for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++)
        for (int log_bins = 1; log_bins <= 12; log_bins += 2)
            for (int growth = 0; growth < 40; growth = 2 * growth + 1)
                for (int exponent = -130; exponent <= 128; exponent += 43)
                    try_histogram(blocks[b], log_bins, exponent, growth);
}

int main(void)
{
    for (uint32_t i = 0; (set = qsdk_arrays(i)); i++)
        if (runs(set->features))
            try_all();
        else
            printf("skipped %s: this CPU has not all of %s\n", set->name, set->features);
    return summary();
}
