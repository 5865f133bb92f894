/* 32 codes at a time. Packing 1, 2 and 4 bits joins neighbours by multiply-adds with powers of two;
 * 3, 5, 6 and 7 bits are shifted together in lanes of 16, 32 and 64 bits. Unpacking puts the two
 * bytes in which a code lies into a lane of 16 bits, and shifts out what is around it. Both take as
 * long as reading and writing. What is left goes to the portable code. */
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

/* Codes of neighbouring lanes of `width` bits, `used` of them each, side by side in one. */
#define JOINED(lane, value, width, used)                                                           \
    _mm256_or_si256(_mm256_and_si256(value, low_##lane),                                           \
                    _mm256_srl_epi##lane(_mm256_andnot_si256(low_##lane, value),                   \
                                         _mm_cvtsi32_si128((width) - (used))))

/* Of any width; writes up to 16 - 2 * bits bytes more than 4 * bits. */
AVX2 static inline void pack_wide_avx2(__m256i codes, int bits, __m256i order, uint8_t *packed)
{
    const __m256i low_16 = _mm256_set1_epi16(0xFF), low_32 = _mm256_set1_epi32(0xFFFF);
    const __m256i low_64 = _mm256_set1_epi64x(0xFFFFFFFF);
    const __m256i ones = _mm256_and_si256(codes, _mm256_set1_epi8((char)((1 << bits) - 1)));
    const __m256i twos = JOINED(16, ones, 8, bits);
    const __m256i fours = JOINED(32, twos, 16, 2 * bits);
    const __m256i eights = JOINED(64, fours, 32, 4 * bits);
    const __m256i bytes = _mm256_shuffle_epi8(eights, order);
    _mm_storeu_si128((__m128i *)packed, _mm256_castsi256_si128(bytes));
    _mm_storeu_si128((__m128i *)(packed + 2 * bits), _mm256_extracti128_si256(bytes, 1));
}

/* The low `bits` bytes of both halves of each 16, one after the other. */
AVX2 static inline __m256i order_avx2(int bits)
{
    uint8_t from[16];
    for (int i = 0; i < 16; i++)
        from[i] = (uint8_t)(i < bits ? i : i < 2 * bits ? 8 + i - bits : 0x80);
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)from));
}

AVX2 uint8_t qsdk_pack_avx2(const uint8_t *codes, size_t n, int bits, uint8_t qmin,
                            uint8_t *packed)
{
    const int is_wide = bits != 1 && bits != 2 && bits != 4 && bits != 8;
    const size_t least = is_wide ? 64 : 32; /* room behind for what is written too much */
    const __m256i lowest = _mm256_set1_epi8((char)qmin), order = order_avx2(bits);
    __m256i reach = _mm256_setzero_si256();
    for (; n >= least; n -= 32, codes += 32, packed += 4 * bits) {
        const __m256i some = _mm256_loadu_si256((const __m256i *)codes);
        reach = _mm256_max_epu8(reach, _mm256_sub_epi8(some, lowest));
        if (is_wide)
            pack_wide_avx2(some, bits, order, packed);
        else
            pack_32_avx2(some, bits, packed);
    }
    uint8_t byte[32], largest = qsdk_pack_portable(codes, n, bits, qmin, packed);
    _mm256_storeu_si256((__m256i *)byte, reach);
    for (size_t i = 0; i < 32; i++)
        largest = byte[i] > largest ? byte[i] : largest;
    return largest;
}

/* Where the 8 codes from bit `start` on lie: their two bytes, and what moves them to the top. */
struct places {
    __m256i bytes, factor;
};

AVX2 static struct places places_avx2(int bits, int start)
{
    uint8_t bytes[16];
    uint16_t factor[8];
    for (int i = 0; i < 8; i++) {
        const int bit = start + i * bits;
        bytes[2 * i] = (uint8_t)(bit / 8);
        bytes[2 * i + 1] = (uint8_t)(bit / 8 + 1);
        factor[i] = (uint16_t)(1u << (16 - bits - bit % 8));
    }
    const struct places places = {
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)bytes)),
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)factor)),
    };
    return places;
}

/* 8 codes of each half, in lanes of 16 bits. */
AVX2 static inline __m256i codes_avx2(__m256i packed, const struct places *places, int is_signed,
                                      __m128i down)
{
    const __m256i pairs = _mm256_shuffle_epi8(packed, places->bytes);
    const __m256i top = _mm256_mullo_epi16(pairs, places->factor);
    return is_signed ? _mm256_sra_epi16(top, down) : _mm256_srl_epi16(top, down);
}

/* 32 codes from 4 * bits bytes, a step; returns how many it did. Reads 16 bytes from 2 * bits on,
 * so it stops where that is more than there is. */
AVX2 static inline size_t unpack_some_avx2(const uint8_t *packed, size_t n, int bits, int is_signed,
                                           uint8_t *codes)
{
    const struct places first = places_avx2(bits, 0), second = places_avx2(bits, 8 * bits);
    const __m128i down = _mm_cvtsi32_si128(16 - bits);
    const size_t ahead = (16 + 2 * (size_t)bits) * 8 / (size_t)bits + 1;
    size_t i = 0;
    for (; i + 32 <= n && i + ahead <= n; i += 32, packed += 4 * bits) {
        const __m128i low = _mm_loadu_si128((const __m128i *)packed);
        const __m128i high = _mm_loadu_si128((const __m128i *)(packed + 2 * bits));
        const __m256i both = _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
        const __m256i a = codes_avx2(both, &first, is_signed, down);
        const __m256i b = codes_avx2(both, &second, is_signed, down);
        const __m256i bytes = is_signed ? _mm256_packs_epi16(a, b) : _mm256_packus_epi16(a, b);
        _mm256_storeu_si256((__m256i *)(codes + i), bytes);
    }
    return i;
}

AVX2 int qsdk_unpack_avx2(const uint8_t *packed, size_t packed_bytes, size_t n, int bits,
                          int is_signed, uint8_t *codes)
{
    const size_t width = (size_t)bits;
    if (bits < 1 || bits > 7 || packed_bytes < n / 8 * width + (n % 8 * width + 7) / 8)
        return qsdk_unpack_portable(packed, packed_bytes, n, bits, is_signed, codes);
    const size_t done = is_signed ? unpack_some_avx2(packed, n, bits, 1, codes)
                                  : unpack_some_avx2(packed, n, bits, 0, codes);
    const size_t bytes = done / 8 * width;
    return qsdk_unpack_portable(packed + bytes, packed_bytes - bytes, n - done, bits, is_signed,
                                codes + done);
}
#endif
