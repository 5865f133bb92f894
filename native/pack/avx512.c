/* 1, 2, 4 and 8 bits, 64 codes at a time: neighbours are joined by multiply-adds with powers of
 * two. It takes as long as the reading. Other widths, and what is left, go to the portable code. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))

/* Writes the bits / 8 of 64 bytes that 64 codes take. */
AVX512 static inline void pack_64_avx512(__m512i codes, int bits, uint8_t *packed)
{
    if (bits == 8) {
        _mm512_storeu_si512(packed, codes);
    } else if (bits == 4) {
        const __m512i low = _mm512_and_si512(codes, _mm512_set1_epi8(15));
        const __m512i pairs = _mm512_maddubs_epi16(low, _mm512_set1_epi16(0x1001));
        _mm256_storeu_si256((__m256i *)packed, _mm512_cvtepi16_epi8(pairs));
    } else if (bits == 2) {
        const __m512i low = _mm512_and_si512(codes, _mm512_set1_epi8(3));
        const __m512i pairs = _mm512_maddubs_epi16(low, _mm512_set1_epi16(0x0401));
        const __m512i fours = _mm512_madd_epi16(pairs, _mm512_set1_epi32(0x00100001));
        _mm_storeu_si128((__m128i *)packed, _mm512_cvtepi32_epi8(fours));
    } else {
        const __mmask64 ones = _mm512_test_epi8_mask(codes, _mm512_set1_epi8(1));
        _mm_storel_epi64((__m128i *)packed, _mm_cvtsi64_si128((long long)ones));
    }
}

AVX512 static inline uint8_t largest_avx512(__m512i bytes)
{
    const __m256i half = _mm256_max_epu8(_mm512_castsi512_si256(bytes),
                                         _mm512_extracti64x4_epi64(bytes, 1));
    uint8_t byte[32], largest = 0;
    _mm256_storeu_si256((__m256i *)byte, half);
    for (size_t i = 0; i < 32; i++)
        largest = byte[i] > largest ? byte[i] : largest;
    return largest;
}

AVX512 uint8_t qsdk_pack_avx512(const uint8_t *codes, size_t n, int bits, uint8_t qmin,
                                uint8_t *packed)
{
    if (bits != 1 && bits != 2 && bits != 4 && bits != 8)
        return qsdk_pack_portable(codes, n, bits, qmin, packed);
    const __m512i lowest = _mm512_set1_epi8((char)qmin);
    __m512i reach = _mm512_setzero_si512();
    for (; n >= 64; n -= 64, codes += 64, packed += 8 * bits) {
        const __m512i some = _mm512_loadu_si512(codes);
        reach = _mm512_max_epu8(reach, _mm512_sub_epi8(some, lowest));
        pack_64_avx512(some, bits, packed);
    }
    const uint8_t rest = qsdk_pack_portable(codes, n, bits, qmin, packed);
    const uint8_t most = largest_avx512(reach);
    return most > rest ? most : rest;
}
#endif
