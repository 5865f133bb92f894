/* The histogram on seeded inputs, against exact arithmetic on the bits of the floats. */
#include "driver.h"
#include "histogram.h"

typedef int64_t histogram(const float *, size_t, int32_t, int32_t, uint32_t *, int64_t *);

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

static void try_histogram(histogram *function, const char *set, size_t n, int log_bins, int exponent)
{
    const int32_t bins = 1 << log_bins;
    float *x = guarded(0, n * sizeof *x);
    uint32_t *tables = guarded(1, 4 * (2 * (size_t)bins + 1) * sizeof *tables);
    int64_t *counts = guarded(2, 2 * (size_t)bins * sizeof *counts), zeros = 0;
    int64_t *oracle = guarded(3, 2 * (size_t)bins * sizeof *oracle);
    memset(counts, 0, 2 * (size_t)bins * sizeof *counts);
    memset(oracle, 0, 2 * (size_t)bins * sizeof *oracle);
    for (size_t i = 0; i < n; i++) {
        x[i] = value_below(exponent);
        if (x[i] == 0)
            zeros++;
        else
            oracle[oracle_place(x[i], log_bins, exponent) + bins]++;
    }
    const int right = function(x, n, bins, exponent, tables, counts) == zeros &&
                      !memcmp(counts, oracle, 2 * (size_t)bins * sizeof *counts);
    expect(right, set, (long)n, log_bins, exponent);
}

int main(void)
{
    static const struct {
        const char *name, *feature;
        histogram *function;
    } sets[] = {
        {"histogram_portable", NULL, qsdk_histogram_portable},
        {"histogram_avx2", "avx2", qsdk_histogram_avx2},
        {"histogram_avx512", "avx512f", qsdk_histogram_avx512},
    };
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        if (sets[s].feature && !has_feature(sets[s].feature)) {
            printf("skipped: %s: this CPU has no %s\n", sets[s].name, sets[s].feature);
            continue;
        }
        for (int exponent = -148; exponent <= 128; exponent += 3)
            for (size_t n = 0; n < 200; n += 1 + n / 40)
                for (int log_bins = 1; log_bins <= 12; log_bins += 3)
                    try_histogram(sets[s].function, sets[s].name, n, log_bins, exponent);
    }
    return summary();
}
