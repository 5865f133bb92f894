/* AVX2, for weights of which no two neighbours of a quad can saturate 16 bits: vpmaddubsw, then
 * vpmaddwd with ones and an addition. Multiplying limits it. Groups of one channel go by row as
 * those of avx2.c do. */
#include "conv_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"

#define SET(name) name##_pairs_avx2
#define TARGET __attribute__((target("avx2")))
#define WEIGHTS 4

typedef ints_t codes_t;

TARGET static inline __attribute__((always_inline)) codes_t codes_pairs_avx2(ints_t quads)
{
    return quads;
}

TARGET static inline __attribute__((always_inline)) ints_t dot_pairs_avx2(ints_t acc, codes_t codes,
                                                                          const uint8_t *w)
{
    const ints_t pairs = _mm256_maddubs_epi16(codes, repeat_avx2(w));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#include "conv_int8_avx2.h"

const struct qsdk_conv_int8_set qsdk_conv_int8_avx2_pairs = {
    .name = "avx2_pairs",
    .coding = &qsdk_linear_int8_avx2,
    .lanes = 8,
    .vectors = 2,
    .block = 4,
    .macs = 60,
    .quads = quads_pairs_avx2,
    .tile = tile_pairs_avx2,
    .spread = qsdk_conv_int8_spread_avx2,
    .rows = qsdk_conv_int8_rows_avx2,
};
#endif
