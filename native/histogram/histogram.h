/* Counting floats in equal bins over [-2^k, 2^k): the histogram observer's inner loop. */
#ifndef QSDK_HISTOGRAM_H
#define QSDK_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* counts[2 * bins] += 1 at floor(x * bins / 2^exponent) + bins for every x that is not 0; returns
 * how many are. The product is taken as if it were exact.
 *
 * bins      a power of two from 2 to 2^20
 * exponent  -149 to 128, and every |x| < 2^exponent: the caller has seen to it
 * tables    scratch of 4 * (2 * bins + 1) words */
int64_t qsdk_histogram_portable(const float *x, size_t n, int32_t bins, int32_t exponent,
                                uint32_t *tables, int64_t *counts);
int64_t qsdk_histogram_avx2(const float *x, size_t n, int32_t bins, int32_t exponent,
                            uint32_t *tables, int64_t *counts);
int64_t qsdk_histogram_avx512(const float *x, size_t n, int32_t bins, int32_t exponent,
                              uint32_t *tables, int64_t *counts);

/* Values that one table entry can count without overflow, a multiple of every step. */
#define QSDK_HISTOGRAM_BLOCK ((size_t)1 << 30)

/* Factor bins / 2^exponent as a float, or 0 where it is none: tiny ranges take the slow way. */
static inline float qsdk_histogram_factor_portable(int32_t bins, int32_t exponent)
{
    float factor = (float)bins;
    for (; exponent > 0; exponent--)
        factor *= 0.5f;
    for (; exponent < 0 && factor < 0x1p100f; exponent++)
        factor *= 2.0f;
    return exponent < 0 ? 0.0f : factor;
}

/* What a block counted in four tables is added to the 64-bit counts; returns the zeros. */
static inline int64_t qsdk_histogram_collect_portable(const uint32_t *tables, int32_t bins,
                                                      int64_t *counts)
{
    const size_t width = 2 * (size_t)bins + 1;
    for (size_t i = 0; i + 1 < width; i++)
        counts[i] += (int64_t)tables[i] + tables[width + i] + tables[2 * width + i] +
                     tables[3 * width + i];
    return (int64_t)tables[width - 1] + tables[2 * width - 1] + tables[3 * width - 1] +
           tables[4 * width - 1];
}

/* Counts n values, a multiple of 32, into the four tables. */
typedef void qsdk_histogram_count(const float *x, size_t n, int32_t bins, float factor,
                                  uint32_t *tables);

/* The histogram by a function that counts vectors; what is left over is counted one by one. */
static inline int64_t qsdk_histogram_by_portable(qsdk_histogram_count *count, const float *x,
                                                 size_t n, int32_t bins, int32_t exponent,
                                                 uint32_t *tables, int64_t *counts)
{
    const float factor = qsdk_histogram_factor_portable(bins, exponent);
    const size_t vectors = factor > 0 ? n - n % 32 : 0;
    int64_t zeros = 0;
    for (size_t done = 0; done < vectors;) {
        const size_t left = vectors - done;
        const size_t block = left < QSDK_HISTOGRAM_BLOCK ? left : QSDK_HISTOGRAM_BLOCK;
        memset(tables, 0, 4 * (2 * (size_t)bins + 1) * sizeof *tables);
        count(x + done, block, bins, factor, tables);
        zeros += qsdk_histogram_collect_portable(tables, bins, counts);
        done += block;
    }
    return zeros + qsdk_histogram_portable(x + vectors, n - vectors, bins, exponent, tables, counts);
}

#endif
