/* Counting floats in equal bins over [-2^k, 2^k): the histogram observer's inner loop. */
#ifndef QSDK_HISTOGRAM_H
#define QSDK_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

/* [cffi] */
enum { QSDK_ZERO_PLACES = 8 };

/* Where a value is counted: at floor(x * exact) + bins, the product taken as if it were exact; a 0
 * at any of the places from 2 * bins on. */
struct qsdk_bins {
    int32_t bins; /* on each side of zero: a power of two from 2 to 2^20 */
    float factor; /* bins / 2^exponent, or 0 where no float holds it: tiny ranges go a slow way */
    double exact; /* the same */
};

/* Adds n values, every |x| < 2^exponent, to four tables of 2 * bins + QSDK_ZERO_PLACES words, in
 * turn: an increment waits for the one before it when both meet in one place. ahead: from every
 * value so far lies one that will be wanted soon; 0 if there is none. */
typedef void qsdk_count_function(const float *x, size_t n, const struct qsdk_bins *bins,
                                 uint32_t *tables, size_t ahead);

/* What n values are: exponent is the least k with |x| < 2^k, or INT32_MIN of nothing but zeros. */
struct qsdk_histogram {
    float low, high;
    int32_t exponent;
    int64_t zeros;
};

/* n values, and counts[2 * bins], exponent and zeros of before to which they are added; low and high
 * are those of the n values alone. Where one is not finite only is_finite is set, to 0. */
struct qsdk_counting {
    const float *x;
    size_t n;
    int64_t *counts, *zeros;
    int32_t *exponent;
    int32_t bins, is_finite;
    float low, high;
};
/* [/cffi] */

qsdk_count_function qsdk_count_portable;
#if defined(__x86_64__) && defined(__GNUC__)
qsdk_count_function qsdk_count_avx2, qsdk_count_avx512;
#endif
#if defined(__aarch64__) && defined(__GNUC__)
qsdk_count_function qsdk_count_neon;
#endif

#endif
