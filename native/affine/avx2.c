/* 32 values at a time. Ranges take as long as the reading; rounding is limited by the division: 8
 * values in about 4 cycles on Zen 3, where a product with the reciprocal, checked, was slower. What
 * is left of a row goes to the portable code. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

struct grid {
    __m256 scale, low, high;
};

AVX2 static inline struct grid grid_avx2(float scale, int32_t zero_point, int32_t qmin,
                                         int32_t qmax)
{
    const struct grid grid = {_mm256_set1_ps(scale), _mm256_set1_ps((float)(qmin - zero_point)),
                              _mm256_set1_ps((float)(qmax - zero_point))};
    return grid;
}

/* The low bytes of the steps: beside 1.5 * 2^23 a float counts in ones. */
AVX2 static inline __m256i round_avx2(__m256 x, const struct grid *grid)
{
    const __m256 u = _mm256_div_ps(x, grid->scale); /* max gives its second operand for NaN */
    const __m256 held = _mm256_min_ps(_mm256_max_ps(u, grid->low), grid->high);
    const __m256i steps = _mm256_castps_si256(_mm256_add_ps(held, _mm256_set1_ps(0x1.8p23f)));
    return _mm256_and_si256(steps, _mm256_set1_epi32(0xFF));
}

/* Quantizes all but the last n % 32; returns how many that is. */
AVX2 static size_t quantize_row_avx2(const float *x, size_t n, const struct grid *grid,
                                     int32_t zero_point, uint8_t *codes)
{
    const __m256i zero_points = _mm256_set1_epi8((char)zero_point);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packs work in halves */
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m256i a = round_avx2(_mm256_loadu_ps(x + i), grid);
        const __m256i b = round_avx2(_mm256_loadu_ps(x + i + 8), grid);
        const __m256i c = round_avx2(_mm256_loadu_ps(x + i + 16), grid);
        const __m256i d = round_avx2(_mm256_loadu_ps(x + i + 24), grid);
        const __m256i bytes =
            _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
        const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, in_order);
        _mm256_storeu_si256((__m256i *)(codes + i), _mm256_add_epi8(ordered, zero_points));
    }
    return i;
}

AVX2 static inline int64_t sum_avx2(__m256i values)
{
    int64_t lane[4];
    _mm256_storeu_si256((__m256i *)lane, values);
    return lane[0] + lane[1] + lane[2] + lane[3];
}

/* The sum over all but the last n % 8. */
AVX2 static int64_t squared_error_row_avx2(const float *x, size_t n, const struct grid *grid)
{
    const __m256 shift = _mm256_set1_ps(0x1.8p23f), reach = _mm256_set1_ps(QSDK_REACH);
    const __m256 lowest = _mm256_sub_ps(grid->low, reach);
    const __m256 highest = _mm256_add_ps(grid->high, reach);
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i + 8 <= n; i += 8) {
        const __m256 u = _mm256_div_ps(_mm256_loadu_ps(x + i), grid->scale);
        const __m256 near = _mm256_min_ps(_mm256_max_ps(u, lowest), highest);
        const __m256 held = _mm256_min_ps(_mm256_max_ps(near, grid->low), grid->high);
        const __m256 steps = _mm256_sub_ps(_mm256_add_ps(held, shift), shift);
        const __m256 error = _mm256_mul_ps(_mm256_sub_ps(steps, near), _mm256_set1_ps(0x1p10f));
        const __m256i even = _mm256_cvtps_epi32(error), odd = _mm256_srli_epi64(even, 32);
        sum = _mm256_add_epi64(sum, _mm256_mul_epi32(even, even));
        sum = _mm256_add_epi64(sum, _mm256_mul_epi32(odd, odd));
    }
    return sum_avx2(sum);
}

struct range {
    __m256 low, high, nan;
};

AVX2 static inline void widen_avx2(struct range *range, __m256 x)
{
    range->low = _mm256_min_ps(x, range->low); /* for NaN the second operand */
    range->high = _mm256_max_ps(x, range->high);
    range->nan = _mm256_or_ps(range->nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

AVX2 static inline float least_avx2(__m256 x)
{
    const __m128 four = _mm_min_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* Widens low[0] and high[0] by all but the last n % 32; returns 0 where one of them is NaN. */
AVX2 static int range_row_avx2(const float *x, size_t n, float *low, float *high)
{
    const __m256 infinite = _mm256_set1_ps(QSDK_INFINITY);
    const struct range empty = {infinite, _mm256_sub_ps(_mm256_setzero_ps(), infinite),
                                _mm256_setzero_ps()};
    struct range ranges[4] = {empty, empty, empty, empty};
    for (size_t i = 0; i + 32 <= n; i += 32)
        for (size_t k = 0; k < 4; k++)
            widen_avx2(&ranges[k], _mm256_loadu_ps(x + i + 8 * k));
    for (size_t k = 1; k < 4; k++) {
        ranges[0].low = _mm256_min_ps(ranges[0].low, ranges[k].low);
        ranges[0].high = _mm256_max_ps(ranges[0].high, ranges[k].high);
        ranges[0].nan = _mm256_or_ps(ranges[0].nan, ranges[k].nan);
    }
    const float least = least_avx2(ranges[0].low);
    const float most = -least_avx2(_mm256_xor_ps(ranges[0].high, _mm256_set1_ps(-0.0f)));
    *low = least < *low ? least : *low;
    *high = most > *high ? most : *high;
    *low += 0.0f; /* no -0 */
    *high += 0.0f;
    return _mm256_movemask_ps(ranges[0].nan) == 0 && *low > -QSDK_INFINITY &&
           *high < QSDK_INFINITY;
}

AVX2 void qsdk_quantize_rows_avx2(const float *x, size_t rows, size_t length, const float *scale,
                                  const int32_t *zero_point, int32_t qmin, int32_t qmax,
                                  uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++, x += length, codes += length) {
        const struct grid grid = grid_avx2(scale[r], zero_point[r], qmin, qmax);
        const size_t done = quantize_row_avx2(x, length, &grid, zero_point[r], codes);
        if (done < length)
            qsdk_quantize_rows_portable(x + done, 1, length - done, scale + r, zero_point + r,
                                        qmin, qmax, codes + done);
    }
}

AVX2 void qsdk_squared_error_rows_avx2(const float *x, size_t rows, size_t length,
                                       const float *scale, const int32_t *zero_point, int32_t qmin,
                                       int32_t qmax, int64_t *error)
{
    const size_t done = length / 8 * 8;
    for (size_t r = 0; r < rows; r++, x += length) {
        const struct grid grid = grid_avx2(scale[r], zero_point[r], qmin, qmax);
        qsdk_squared_error_rows_portable(x + done, 1, length - done, scale + r, zero_point + r,
                                         qmin, qmax, error + r);
        error[r] += squared_error_row_avx2(x, done, &grid);
    }
}

AVX2 int qsdk_range_rows_avx2(const float *x, size_t rows, size_t length, float *low, float *high)
{
    const size_t done = length / 32 * 32;
    int finite = 1;
    for (size_t r = 0; r < rows; r++, x += length) {
        low[r] = QSDK_INFINITY;
        high[r] = -QSDK_INFINITY;
        if (done < length)
            finite &= qsdk_range_rows_portable(x + done, 1, length - done, low + r, high + r);
        if (done > 0)
            finite &= range_row_avx2(x, done, low + r, high + r);
    }
    return finite;
}
#endif
