/* 32 codes at a time; writing floats limits it. What is left of a row goes to the portable code. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

/* All but the last length % 32 codes; returns how many that is. */
AVX2 static size_t dequantize_row_avx2(const uint8_t *codes, size_t length, float scale,
                                       int32_t zero_point, int is_signed, float *x)
{
    const int flip = is_signed ? 0x80 : 0; /* int8 + 128 */
    const __m128i flips = _mm_set1_epi8((char)flip);
    const __m256i zero_points = _mm256_set1_epi32(zero_point + flip);
    const __m256 scales = _mm256_set1_ps(scale);
    size_t i = 0;
    for (; i + 32 <= length; i += 32)
        for (size_t k = 0; k < 32; k += 8) {
            const __m128i eight = _mm_loadl_epi64((const __m128i *)(codes + i + k));
            const __m256i wide = _mm256_cvtepu8_epi32(_mm_xor_si128(eight, flips));
            const __m256 steps = _mm256_cvtepi32_ps(_mm256_sub_epi32(wide, zero_points));
            _mm256_storeu_ps(x + i + k, _mm256_mul_ps(steps, scales));
        }
    return i;
}

AVX2 void qsdk_dequantize_rows_avx2(const uint8_t *codes, size_t rows, size_t length,
                                    const float *scale, const int32_t *zero_point, int is_signed,
                                    float *x)
{
    for (size_t r = 0; r < rows; r++, codes += length, x += length) {
        const size_t done =
            dequantize_row_avx2(codes, length, scale[r], zero_point[r], is_signed, x);
        if (done < length)
            qsdk_dequantize_rows_portable(codes + done, 1, length - done, scale + r,
                                          zero_point + r, is_signed, x + done);
    }
}
#endif
