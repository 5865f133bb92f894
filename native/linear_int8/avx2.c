/* AVX2, exact for all weights: bytes widen to 16 bits, even and odd ones apart, and
 * vpmaddwd adds the products of two in 32 bits. Codes are widened once, before the product, weights
 * in every step of it. Four operations for 32 products limit it, and what they load. */
#include "linear_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#define WIDEN widen_avx2
#include "linear_int8_avx2.h"
#include "linear_int8_table.h"

#define SET(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define ROWS 4
#define WIDE 1

typedef ints_t sums_t;

#define FOUR 8

/* Codes 0 and 2 of four, 1 and 3, in every lane. */
typedef struct {
    ints_t even, odd;
} codes_t;

OPERATION codes_t four_avx2(const uint8_t *a)
{
    return (codes_t){repeat_avx2(a), repeat_avx2(a + 4)};
}

/* From the end on: what is written there has been read. */
TARGET static void widen_avx2(uint8_t *codes, size_t n)
{
    for (size_t i = (n + 15) / 16; i-- > 0;) {
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(codes + 16 * i));
        const __m128i even = _mm_and_si128(bytes, _mm_set1_epi16(0xff));
        const __m128i odd = _mm_srli_epi16(bytes, 8);
        _mm_storeu_si128((__m128i *)(void *)(codes + 32 * i), _mm_unpacklo_epi32(even, odd));
        _mm_storeu_si128((__m128i *)(void *)(codes + 32 * i + 16), _mm_unpackhi_epi32(even, odd));
    }
}

OPERATION sums_t none_avx2(void) { return _mm256_setzero_si256(); }
OPERATION ints_t total_avx2(sums_t acc) { return acc; }

OPERATION sums_t dot_avx2(sums_t acc, codes_t codes, ints_t weights)
{
    const ints_t even = _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8);
    const ints_t odd = _mm256_srai_epi16(weights, 8);
    const ints_t sum = _mm256_add_epi32(acc, _mm256_madd_epi16(codes.even, even));
    return VEC(keep)(_mm256_add_epi32(sum, _mm256_madd_epi16(codes.odd, odd)));
}

#include "linear_int8_loops.h"
#include "linear_int8_rows.h"

TABLE(avx2, ANY, 0, 4, 35);
#endif
