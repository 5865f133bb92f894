/* 8 accumulators at a time, in lanes of 64 bits, where limits and shifts are one operation each. */
#include "arrays.h"
#include "requantize.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

struct grid {
    __m512i mantissa, half, low, high, zero_point;
    __m128i right;
};

AVX512 static inline struct grid grid_avx512(struct qsdk_multiplier multiplier, int32_t zero_point,
                                             int32_t qmin, int32_t qmax)
{
    const struct grid grid = {
        .mantissa = _mm512_set1_epi64(multiplier.mantissa),
        .half = _mm512_set1_epi64(multiplier.half),
        .low = _mm512_set1_epi64(qmin),
        .high = _mm512_set1_epi64(qmax),
        .zero_point = _mm512_set1_epi64(zero_point),
        .right = _mm_cvtsi32_si128(multiplier.right),
    };
    return grid;
}

/* Codes of 8, one in the low byte of each lane. */
AVX512 static inline __m512i codes_avx512(__m256i acc, const struct grid *grid)
{
    const __m512i wide = _mm512_cvtepi32_epi64(acc);
    const __m512i sum = _mm512_add_epi64(_mm512_mul_epi32(wide, grid->mantissa), grid->half);
    const __m512i steps = _mm512_sra_epi64(sum, grid->right);
    const __m512i code = _mm512_add_epi64(steps, grid->zero_point);
    return _mm512_min_epi64(_mm512_max_epi64(code, grid->low), grid->high);
}

AVX512 static void requantize_row_avx512(const int32_t *acc, size_t length,
                                         const struct grid *grid, uint8_t *codes)
{
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        const __m256i some = _mm256_loadu_si256((const __m256i *)(const void *)(acc + i));
        const __m128i bytes = _mm512_cvtepi64_epi8(codes_avx512(some, grid));
        _mm_storel_epi64((__m128i *)(codes + i), bytes);
    }
    const __mmask8 rest = (__mmask8)((1u << (length - i)) - 1);
    const __m256i last = _mm256_maskz_loadu_epi32(rest, acc + i);
    _mm512_mask_cvtepi64_storeu_epi8(codes + i, rest, codes_avx512(last, grid));
}

AVX512 void qsdk_requantize_rows_avx512(const int32_t *acc, size_t rows, size_t length,
                                        const int32_t *mantissa, const int32_t *shift,
                                        int32_t zero_point, int32_t qmin, int32_t qmax,
                                        uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++) {
        const struct grid grid =
            grid_avx512(qsdk_multiplier_portable(mantissa[r], shift[r]), zero_point, qmin, qmax);
        requantize_row_avx512(acc + r * length, length, &grid, codes + r * length);
    }
}
#endif
