/* 32 accumulators at a time, in 64-bit lanes of the even and of the odd ones: some five operations
 * a value, which take as long as the reading. What is left goes to the portable code. */
#include "arrays.h"
#include "requantize.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

struct grid {
    __m256i mantissa, half, low, high;
    __m256i sign, moved; /* 2^63, and where the shift takes it */
    __m128i right;
};

AVX2 static inline struct grid grid_avx2(struct qsdk_multiplier multiplier, int32_t zero_point,
                                         int32_t qmin, int32_t qmax)
{
    const __m256i sign = _mm256_set1_epi64x(INT64_MIN);
    const __m128i right = _mm_cvtsi32_si128(multiplier.right);
    const struct grid grid = {
        .mantissa = _mm256_set1_epi32(multiplier.mantissa),
        .half = _mm256_set1_epi64x(multiplier.half),
        .low = _mm256_set1_epi64x(qmin - zero_point),
        .high = _mm256_set1_epi64x(qmax - zero_point),
        .sign = sign,
        .moved = _mm256_srl_epi64(sign, right),
        .right = right,
    };
    return grid;
}

/* Of the even accumulators. There is no arithmetic shift of 64 bits: 2^63 is added, which makes
 * them positive, and taken off behind the shift. */
AVX2 static inline __m256i even_avx2(__m256i acc, const struct grid *grid)
{
    const __m256i sum = _mm256_add_epi64(_mm256_mul_epi32(acc, grid->mantissa), grid->half);
    const __m256i shifted = _mm256_srl_epi64(_mm256_xor_si256(sum, grid->sign), grid->right);
    const __m256i steps = _mm256_sub_epi64(shifted, grid->moved);
    const __m256i is_low = _mm256_cmpgt_epi64(grid->low, steps);
    const __m256i is_high = _mm256_cmpgt_epi64(steps, grid->high);
    return _mm256_blendv_epi8(_mm256_blendv_epi8(steps, grid->low, is_low), grid->high, is_high);
}

/* The low bytes of the steps of 8. */
AVX2 static inline __m256i steps_avx2(const int32_t *acc, const struct grid *grid)
{
    const __m256i all = _mm256_loadu_si256((const __m256i *)(const void *)acc);
    const __m256i even = even_avx2(all, grid), odd = even_avx2(_mm256_srli_epi64(all, 32), grid);
    const __m256i steps = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
    return _mm256_and_si256(steps, _mm256_set1_epi32(0xFF));
}

/* All but the last length % 32; returns how many that is. */
AVX2 static size_t requantize_row_avx2(const int32_t *acc, size_t length, const struct grid *grid,
                                       int32_t zero_point, uint8_t *codes)
{
    const __m256i zero_points = _mm256_set1_epi8((char)zero_point);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packs work in halves */
    size_t i = 0;
    for (; i + 32 <= length; i += 32) {
        const __m256i a = steps_avx2(acc + i, grid), b = steps_avx2(acc + i + 8, grid);
        const __m256i c = steps_avx2(acc + i + 16, grid), d = steps_avx2(acc + i + 24, grid);
        const __m256i bytes =
            _mm256_packus_epi16(_mm256_packus_epi32(a, b), _mm256_packus_epi32(c, d));
        const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, in_order);
        _mm256_storeu_si256((__m256i *)(codes + i), _mm256_add_epi8(ordered, zero_points));
    }
    return i;
}

AVX2 void qsdk_requantize_rows_avx2(const int32_t *acc, size_t rows, size_t length,
                                    const int32_t *mantissa, const int32_t *shift,
                                    int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++, acc += length, codes += length) {
        const struct grid grid =
            grid_avx2(qsdk_multiplier_portable(mantissa[r], shift[r]), zero_point, qmin, qmax);
        const size_t done = requantize_row_avx2(acc, length, &grid, zero_point, codes);
        qsdk_requantize_rows_portable(acc + done, 1, length - done, mantissa + r, shift + r,
                                      zero_point, qmin, qmax, codes + done);
    }
}
#endif
