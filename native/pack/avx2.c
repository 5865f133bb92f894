/* 1, 2, 4 and 8 bits, 32 codes at a time: neighbours are joined by multiply-adds with powers of
 * two. It takes as long as the reading. Other widths, and what is left, go to the portable code. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))

/* Writes the 4 * bits bytes that 32 codes take. */
AVX2 static inline void pack_32_avx2(__m256i codes, int bits, uint8_t *packed)
{
    const __m256i zero = _mm256_setzero_si256();
    if (bits == 8) {
        _mm256_storeu_si256((__m256i *)packed, codes);
    } else if (bits == 4) {
        const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi8(15));
        const __m256i pairs = _mm256_maddubs_epi16(low, _mm256_set1_epi16(0x1001));
        const __m256i halves = _mm256_packus_epi16(pairs, zero); /* packs work in halves */
        const __m256i bytes = _mm256_permute4x64_epi64(halves, 0x08);
        _mm_storeu_si128((__m128i *)packed, _mm256_castsi256_si128(bytes));
    } else if (bits == 2) {
        const __m256i low = _mm256_and_si256(codes, _mm256_set1_epi8(3));
        const __m256i pairs = _mm256_maddubs_epi16(low, _mm256_set1_epi16(0x0401));
        const __m256i fours = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00100001));
        const __m256i halves = _mm256_packus_epi16(_mm256_packus_epi32(fours, zero), zero);
        const __m256i bytes =
            _mm256_permutevar8x32_epi32(halves, _mm256_setr_epi32(0, 4, 1, 1, 1, 1, 1, 1));
        _mm_storel_epi64((__m128i *)packed, _mm256_castsi256_si128(bytes));
    } else {
        const int ones = _mm256_movemask_epi8(_mm256_slli_epi16(codes, 7));
        memcpy(packed, &ones, 4);
    }
}

AVX2 uint8_t qsdk_pack_avx2(const uint8_t *codes, size_t n, int bits, uint8_t qmin,
                            uint8_t *packed)
{
    if (bits != 1 && bits != 2 && bits != 4 && bits != 8)
        return qsdk_pack_portable(codes, n, bits, qmin, packed);
    const __m256i lowest = _mm256_set1_epi8((char)qmin);
    __m256i reach = _mm256_setzero_si256();
    for (; n >= 32; n -= 32, codes += 32, packed += 4 * bits) {
        const __m256i some = _mm256_loadu_si256((const __m256i *)codes);
        reach = _mm256_max_epu8(reach, _mm256_sub_epi8(some, lowest));
        pack_32_avx2(some, bits, packed);
    }
    uint8_t byte[32], largest = qsdk_pack_portable(codes, n, bits, qmin, packed);
    _mm256_storeu_si256((__m256i *)byte, reach);
    for (size_t i = 0; i < 32; i++)
        largest = byte[i] > largest ? byte[i] : largest;
    return largest;
}
#endif
