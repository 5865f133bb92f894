/* AVX2: a step takes the even and the odd bytes of a vector of quads apart, as 16-bit numbers, and
 * multiplies both by pairs of 16-bit weights: vpmaddwd adds two products in 32 bits, so nothing
 * saturates. Multiplying and adding limit it alike. */
#include "conv_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"

#define SET(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define WEIGHTS 8

typedef struct {
    ints_t even, odd;
} codes_t;

TARGET static inline __attribute__((always_inline)) codes_t codes_avx2(ints_t quads)
{
    return (codes_t){_mm256_and_si256(quads, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(quads, 8)};
}

TARGET static inline __attribute__((always_inline)) ints_t dot_avx2(ints_t acc, codes_t codes,
                                                                     const uint8_t *w)
{
    int32_t even, odd;
    memcpy(&even, w, sizeof even);
    memcpy(&odd, w + sizeof even, sizeof odd);
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(codes.even, _mm256_set1_epi32(even)));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(codes.odd, _mm256_set1_epi32(odd)));
}

#include "conv_int8_avx2.h"

const struct qsdk_conv_int8_set qsdk_conv_int8_avx2 = {
    .name = "avx2",
    .coding = &qsdk_linear_int8_avx2,
    .is_wide = 1,
    .lanes = 8,
    .vectors = 2,
    .block = 4,
    .macs = 40,
    .quads = quads_avx2,
    .tile = tile_avx2,
    .spread = qsdk_conv_int8_spread_avx2,
    .rows = qsdk_conv_int8_rows_avx2,
};
#endif
