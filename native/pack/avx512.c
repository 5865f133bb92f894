/* 64 codes at a time. Packing 1, 2 and 4 bits joins neighbours by multiply-adds with powers of two;
 * 3, 5, 6 and 7 bits are shifted together in lanes of 16, 32 and 64 bits. Unpacking brings the bytes
 * of 8 codes into a lane of 64 bits, out of which one instruction takes 8 bits from 8 places. Both
 * take as long as reading and writing. What is left of packing goes to the portable code. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")))

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

/* Codes of neighbouring lanes of `width` bits, `used` of them each, side by side in one. */
#define JOINED(lane, value, width, used)                                                           \
    _mm512_or_si512(_mm512_and_si512(value, low_##lane),                                           \
                    _mm512_srl_epi##lane(_mm512_andnot_si512(low_##lane, value),                   \
                                         _mm_cvtsi32_si128((width) - (used))))

/* The same for any width below 8. */
AVX512 static inline void pack_wide_avx512(__m512i codes, int bits, __m512i order, uint8_t *packed)
{
    const __m512i low_16 = _mm512_set1_epi16(0xFF), low_32 = _mm512_set1_epi32(0xFFFF);
    const __m512i low_64 = _mm512_set1_epi64(0xFFFFFFFF);
    const __m512i ones = _mm512_and_si512(codes, _mm512_set1_epi8((char)((1 << bits) - 1)));
    const __m512i twos = JOINED(16, ones, 8, bits);
    const __m512i fours = JOINED(32, twos, 16, 2 * bits);
    const __m512i eights = JOINED(64, fours, 32, 4 * bits);
    const __mmask64 used = ((__mmask64)1 << (8 * bits)) - 1;
    _mm512_mask_storeu_epi8(packed, used, _mm512_permutexvar_epi8(order, eights));
}

/* The low `bits` bytes of each 8, one after the other. */
AVX512 static inline __m512i order_avx512(int bits)
{
    uint8_t from[64];
    for (int i = 0; i < 64; i++)
        from[i] = (uint8_t)((i / bits * 8 + i % bits) & 63);
    return _mm512_loadu_si512(from);
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
    const int is_wide = bits != 1 && bits != 2 && bits != 4 && bits != 8;
    const __m512i lowest = _mm512_set1_epi8((char)qmin), order = order_avx512(bits);
    __m512i reach = _mm512_setzero_si512();
    for (; n >= 64; n -= 64, codes += 64, packed += 8 * bits) {
        const __m512i some = _mm512_loadu_si512(codes);
        reach = _mm512_max_epu8(reach, _mm512_sub_epi8(some, lowest));
        if (is_wide)
            pack_wide_avx512(some, bits, order, packed);
        else
            pack_64_avx512(some, bits, packed);
    }
    const uint8_t rest = qsdk_pack_portable(codes, n, bits, qmin, packed);
    const uint8_t most = largest_avx512(reach);
    return most > rest ? most : rest;
}

struct places {
    __m512i bytes, shifts; /* of 8 codes the first byte, and the bit where each begins */
    __m512i mask, sign;
};

AVX512 static inline struct places places_avx512(int bits, int is_signed)
{
    uint8_t bytes[64], shifts[64];
    for (int i = 0; i < 64; i++) {
        bytes[i] = (uint8_t)((i / 8 * bits + i % 8) & 63);
        shifts[i] = (uint8_t)(i % 8 * bits);
    }
    const struct places places = {
        _mm512_loadu_si512(bytes),
        _mm512_loadu_si512(shifts),
        _mm512_set1_epi8((char)((1 << bits) - 1)),
        _mm512_set1_epi8((char)(is_signed ? 1 << (bits - 1) : 0)),
    };
    return places;
}

AVX512 static inline __m512i unpack_64_avx512(__m512i packed, const struct places *places)
{
    const __m512i eights = _mm512_permutexvar_epi8(places->bytes, packed);
    const __m512i wide = _mm512_multishift_epi64_epi8(places->shifts, eights);
    const __m512i codes = _mm512_and_si512(wide, places->mask);
    return _mm512_sub_epi8(_mm512_xor_si512(codes, places->sign), places->sign);
}

AVX512 static inline __mmask64 first_avx512(size_t n)
{
    return n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0;
}

AVX512 int qsdk_unpack_avx512(const uint8_t *packed, size_t packed_bytes, size_t n, int bits,
                              int is_signed, uint8_t *codes)
{
    const size_t width = (size_t)bits;
    if (bits < 1 || bits > 7 || packed_bytes < n / 8 * width + (n % 8 * width + 7) / 8)
        return qsdk_unpack_portable(packed, packed_bytes, n, bits, is_signed, codes);
    const struct places places = places_avx512(bits, is_signed);
    const __mmask64 all = first_avx512(8 * width);
    for (; n >= 64; n -= 64, codes += 64, packed += 8 * bits) {
        const __m512i some = _mm512_maskz_loadu_epi8(all, packed);
        _mm512_storeu_si512(codes, unpack_64_avx512(some, &places));
    }
    const __m512i last = _mm512_maskz_loadu_epi8(first_avx512((n * width + 7) / 8), packed);
    _mm512_mask_storeu_epi8(codes, first_avx512(n), unpack_64_avx512(last, &places));
    return 0;
}
#endif
