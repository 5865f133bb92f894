/* 16 codes at a time; writing floats limits it. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

AVX512 static inline __m512 floats_avx512(__m128i codes, __m128i flips, __m512i zero_points,
                                          __m512 scales)
{
    const __m512i wide = _mm512_cvtepu8_epi32(_mm_xor_si128(codes, flips));
    const __m512 steps = _mm512_cvtepi32_ps(_mm512_sub_epi32(wide, zero_points));
    return _mm512_mul_ps(steps, scales);
}

AVX512 static void dequantize_row_avx512(const uint8_t *codes, size_t length, float scale,
                                         int32_t zero_point, int is_signed, float *x)
{
    const int flip = is_signed ? 0x80 : 0; /* int8 + 128 */
    const __m128i flips = _mm_set1_epi8((char)flip);
    const __m512i zero_points = _mm512_set1_epi32(zero_point + flip);
    const __m512 scales = _mm512_set1_ps(scale);
    size_t i = 0;
    for (; i + 16 <= length; i += 16) {
        const __m128i some = _mm_loadu_si128((const __m128i *)(codes + i));
        _mm512_storeu_ps(x + i, floats_avx512(some, flips, zero_points, scales));
    }
    const __mmask16 rest = (__mmask16)((1u << (length - i)) - 1);
    const __m128i last = _mm_maskz_loadu_epi8(rest, codes + i);
    _mm512_mask_storeu_ps(x + i, rest, floats_avx512(last, flips, zero_points, scales));
}

AVX512 void qsdk_dequantize_rows_avx512(const uint8_t *codes, size_t rows, size_t length,
                                        const float *scale, const int32_t *zero_point,
                                        int is_signed, float *x)
{
    for (size_t r = 0; r < rows; r++)
        dequantize_row_avx512(codes + r * length, length, scale[r], zero_point[r], is_signed,
                              x + r * length);
}
#endif
