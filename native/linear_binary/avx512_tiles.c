/* Bits to bytes of -1, 0 and 1, as amx.c multiplies them. A word of 64 places of 16 rows becomes
 * one tile; a step makes two rows of it, four places each: one shuffle gives all 16 rows their next
 * byte of places four times over, which testing for one bit per copy turns into masks. */
#include "avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq")))

/* Places 32 * half .. of 16 rows, a row in each lane. words: rows 0, 2, .. 14, then 1, 3, .. 15. */
TARGET static inline __m512i lanes_avx512(const uint64_t *words, int half)
{
    const __mmask16 odd = 0xaaaa;
    const __m512i first = _mm512_loadu_si512(words), second = _mm512_loadu_si512(words + 8);
    return half ? _mm512_mask_blend_epi32(odd, _mm512_srli_epi64(first, 32), second)
                : _mm512_mask_blend_epi32(odd, first, _mm512_slli_epi64(second, 32));
}

/* 4 places of 16 rows as digits: with one part each bit is -1 or 1, with two 1, -1 or 0. */
TARGET static inline __m512i digits_avx512(int parts, __m512i plus, __m512i minus, __m512i bits)
{
    const __m512i one = _mm512_set1_epi8(1), negative = _mm512_set1_epi8(-1);
    const __mmask64 is_plus = _mm512_test_epi8_mask(plus, bits);
    if (parts == 1)
        return _mm512_mask_blend_epi8(is_plus, negative, one);
    const __m512i up = _mm512_maskz_mov_epi8(is_plus, one);
    return _mm512_mask_mov_epi8(up, _mm512_test_epi8_mask(minus, bits), negative);
}

TARGET static inline __attribute__((always_inline)) void
tile_avx512(const uint64_t *words, size_t apart, int parts, int8_t *tile)
{
    const __m512i copies = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12));
    const __m512i low = _mm512_set1_epi32(0x08040201), high = _mm512_slli_epi16(low, 4);
    QSDK_UNROLL
    for (int half = 0; half < 2; half++) {
        const __m512i plus = lanes_avx512(words, half);
        const __m512i minus = parts == 1 ? plus : lanes_avx512(words + apart, half);
        QSDK_UNROLL
        for (int byte = 0; byte < 4; byte++, tile += 128) {
            const __m512i pick = _mm512_add_epi8(copies, _mm512_set1_epi8((char)byte));
            const __m512i p = _mm512_shuffle_epi8(plus, pick);
            const __m512i m = _mm512_shuffle_epi8(minus, pick);
            _mm512_storeu_si512(tile, digits_avx512(parts, p, m, low));
            _mm512_storeu_si512(tile + 64, digits_avx512(parts, p, m, high));
        }
    }
}

TARGET void qsdk_binary_digits_avx512(const uint64_t *words, int parts, size_t count, int8_t *tiles)
{
    enum { ROWS = 32 };
    for (size_t word = 0; word < count; word++, words += (size_t)parts * ROWS)
        for (size_t half = 0; half < ROWS; half += 16, tiles += QSDK_BINARY_TILE) {
            if (parts == 1)
                tile_avx512(words + half, 0, 1, tiles);
            else
                tile_avx512(words + half, ROWS, 2, tiles);
        }
}

TARGET void qsdk_binary_signs_avx512(const uint64_t *words, int bits, size_t length, int8_t *tiles)
{
    const __m512i one = _mm512_set1_epi8(1), negative = _mm512_set1_epi8(-1);
    for (size_t k = 0; k < length; k += 64) {
        const __mmask64 valid = qsdk_sign_valid_portable(length - k < 64 ? length - k : 64);
        for (int j = 0; j < bits; j++, tiles += QSDK_BINARY_TILE) {
            const __m512i signs = _mm512_mask_blend_epi8(*words++, negative, one);
            _mm512_storeu_si512(tiles, _mm512_maskz_mov_epi8(valid, signs));
        }
    }
}

#endif
