/* 64 values at a time. Ranges take as long as the reading; rounding too, for it divides only where a
 * product with the reciprocal leaves a doubt. Errors are limited by the division, 16 values in about
 * 10 cycles, and the 64-bit sums. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")))

struct grid {
    __m512 scale, low, high;
};

AVX512 static inline struct grid grid_avx512(float scale, int32_t zero_point, int32_t qmin,
                                             int32_t qmax)
{
    const struct grid grid = {_mm512_set1_ps(scale), _mm512_set1_ps((float)(qmin - zero_point)),
                              _mm512_set1_ps((float)(qmax - zero_point))};
    return grid;
}

AVX512 static inline __mmask16 first_avx512(size_t n)
{
    return n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xFFFF;
}

/* The steps, in the low byte of each lane: beside 1.5 * 2^23 a float counts in ones. */
AVX512 static inline __m512i round_avx512(__m512 x, const struct grid *grid)
{
    const __m512 u = _mm512_div_ps(x, grid->scale); /* max gives its second operand for NaN */
    const __m512 held = _mm512_min_ps(_mm512_max_ps(u, grid->low), grid->high);
    return _mm512_castps_si512(_mm512_add_ps(held, _mm512_set1_ps(0x1.8p23f)));
}

/* The same by the reciprocal, and in far the largest distance from a whole step. Of at most 255 steps
 * the product is within 3 * 2^-16 of the quotient, so that both round alike but near a half. */
AVX512 static inline __m512i about_avx512(__m512 x, __m512 inverse, const struct grid *grid,
                                          __m512 *far)
{
    const __m512 shift = _mm512_set1_ps(0x1.8p23f), u = _mm512_mul_ps(x, inverse);
    const __m512 held = _mm512_min_ps(_mm512_max_ps(u, grid->low), grid->high);
    const __m512 steps = _mm512_add_ps(held, shift);
    const __m512 rest = _mm512_sub_ps(held, _mm512_sub_ps(steps, shift));
    *far = _mm512_max_ps(*far, _mm512_abs_ps(rest));
    return _mm512_castps_si512(steps);
}

AVX512 static inline void four_avx512(const float *x, const struct grid *grid, __m512 inverse,
                                      int is_quick, __m512i *steps)
{
    __m512 far = _mm512_setzero_ps();
    for (size_t k = 0; k < 4; k++)
        steps[k] = about_avx512(_mm512_loadu_ps(x + 16 * k), inverse, grid, &far);
    if (!is_quick || _mm512_cmp_ps_mask(far, _mm512_set1_ps(0.5f - 0x1p-14f), _CMP_GT_OQ))
        for (size_t k = 0; k < 4; k++)
            steps[k] = round_avx512(_mm512_loadu_ps(x + 16 * k), grid);
}

AVX512 static void quantize_row_avx512(const float *x, size_t n, float scale,
                                       const struct grid *grid, int32_t zero_point,
                                       uint8_t *codes)
{
    const __m512 inverse = _mm512_set1_ps(1 / scale);
    const int is_quick = scale > 0x1p-100f && scale < 0x1p100f;
    const __m512i zero_points = _mm512_set1_epi8((char)zero_point);
    const __m512i low_bytes = /* of the lanes of two registers */
        _mm512_setr_epi32(0x0C080400, 0x1C181410, 0x2C282420, 0x3C383430, 0x4C484440, 0x5C585450,
                          0x6C686460, 0x7C787470, 0, 0, 0, 0, 0, 0, 0, 0);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512i steps[4];
        four_avx512(x + i, grid, inverse, is_quick, steps);
        const __m512i low = _mm512_permutex2var_epi8(steps[0], low_bytes, steps[1]);
        const __m512i high = _mm512_permutex2var_epi8(steps[2], low_bytes, steps[3]);
        const __m512i bytes = _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
        _mm512_storeu_si512(codes + i, _mm512_add_epi8(bytes, zero_points));
    }
    for (; i < n; i += 16) {
        const __mmask16 some = first_avx512(n - i);
        const __m512i steps = round_avx512(_mm512_maskz_loadu_ps(some, x + i), grid);
        _mm_mask_storeu_epi8(codes + i, some,
                             _mm_add_epi8(_mm512_cvtepi32_epi8(steps),
                                          _mm512_castsi512_si128(zero_points)));
    }
}

AVX512 static int64_t squared_error_row_avx512(const float *x, size_t n, const struct grid *grid)
{
    const __m512 shift = _mm512_set1_ps(0x1.8p23f), reach = _mm512_set1_ps(QSDK_REACH);
    const __m512 lowest = _mm512_sub_ps(grid->low, reach);
    const __m512 highest = _mm512_add_ps(grid->high, reach);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16) {
        const __m512 all = _mm512_maskz_loadu_ps(first_avx512(n - i), x + i); /* 0 is no error */
        const __m512 u = _mm512_div_ps(all, grid->scale);
        const __m512 near = _mm512_min_ps(_mm512_max_ps(u, lowest), highest);
        const __m512 held = _mm512_min_ps(_mm512_max_ps(near, grid->low), grid->high);
        const __m512 steps = _mm512_sub_ps(_mm512_add_ps(held, shift), shift);
        const __m512 error = _mm512_mul_ps(_mm512_sub_ps(steps, near), _mm512_set1_ps(0x1p10f));
        const __m512i even = _mm512_cvtps_epi32(error), odd = _mm512_srli_epi64(even, 32);
        sum = _mm512_add_epi64(sum, _mm512_mul_epi32(even, even));
        sum = _mm512_add_epi64(sum, _mm512_mul_epi32(odd, odd));
    }
    return _mm512_reduce_add_epi64(sum);
}

struct range {
    __m512 low, high;
    __mmask16 nan;
};

AVX512 static inline void widen_avx512(struct range *range, __m512 x)
{
    range->low = _mm512_min_ps(x, range->low); /* for NaN the second operand */
    range->high = _mm512_max_ps(x, range->high);
    range->nan |= _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
}

AVX512 static int range_row_avx512(const float *x, size_t n, float *low, float *high)
{
    const __m512 infinite = _mm512_set1_ps(QSDK_INFINITY);
    const struct range empty = {infinite, _mm512_sub_ps(_mm512_setzero_ps(), infinite), 0};
    struct range ranges[4] = {empty, empty, empty, empty};
    size_t i = 0;
    for (; i + 64 <= n; i += 64)
        for (size_t k = 0; k < 4; k++)
            widen_avx512(&ranges[k], _mm512_loadu_ps(x + i + 16 * k));
    for (; i < n; i += 16) {
        const __mmask16 some = first_avx512(n - i);
        const __m512 first = _mm512_set1_ps(x[i]); /* fills up the last */
        widen_avx512(&ranges[0], _mm512_mask_loadu_ps(first, some, x + i));
    }
    for (size_t k = 1; k < 4; k++) {
        ranges[0].low = _mm512_min_ps(ranges[0].low, ranges[k].low);
        ranges[0].high = _mm512_max_ps(ranges[0].high, ranges[k].high);
        ranges[0].nan |= ranges[k].nan;
    }
    *low = _mm512_reduce_min_ps(ranges[0].low) + 0.0f; /* no -0 */
    *high = _mm512_reduce_max_ps(ranges[0].high) + 0.0f;
    return n == 0 || (!ranges[0].nan && *low > -QSDK_INFINITY && *high < QSDK_INFINITY);
}

AVX512 void qsdk_quantize_rows_avx512(const float *x, size_t rows, size_t length,
                                      const float *scale, const int32_t *zero_point, int32_t qmin,
                                      int32_t qmax, uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++) {
        const struct grid grid = grid_avx512(scale[r], zero_point[r], qmin, qmax);
        quantize_row_avx512(x + r * length, length, scale[r], &grid, zero_point[r],
                            codes + r * length);
    }
}

AVX512 void qsdk_squared_error_rows_avx512(const float *x, size_t rows, size_t length,
                                           const float *scale, const int32_t *zero_point,
                                           int32_t qmin, int32_t qmax, int64_t *error)
{
    for (size_t r = 0; r < rows; r++) {
        const struct grid grid = grid_avx512(scale[r], zero_point[r], qmin, qmax);
        error[r] = squared_error_row_avx512(x + r * length, length, &grid);
    }
}

AVX512 int qsdk_range_rows_avx512(const float *x, size_t rows, size_t length, float *low,
                                  float *high)
{
    int finite = 1;
    for (size_t r = 0; r < rows; r++)
        finite &= range_row_avx512(x + r * length, length, low + r, high + r);
    return finite;
}
#endif
