/* AVX-VNNI: a step adds four products of bytes to every accumulator at once; the multiplier limits
 * it. */
#include "conv_int8_set.h"

#if defined(__x86_64__) && (__GNUC__ >= 11 || defined(__clang__))
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"

#define SET(name) name##_avxvnni
#define TARGET __attribute__((target("avx2,avxvnni")))
#define WEIGHTS 4

typedef ints_t codes_t;

TARGET static inline __attribute__((always_inline)) codes_t codes_avxvnni(ints_t quads)
{
    return quads;
}

TARGET static inline __attribute__((always_inline)) ints_t dot_avxvnni(ints_t acc, codes_t codes,
                                                                        const uint8_t *w)
{
    int32_t four;
    memcpy(&four, w, sizeof four);
    return _mm256_dpbusd_avx_epi32(acc, codes, _mm256_set1_epi32(four));
}

#include "conv_int8_avx2.h"

const struct qsdk_conv_int8_set qsdk_conv_int8_avxvnni = {
    .name = "avxvnni",
    .coding = &qsdk_linear_int8_avx2,
    .lanes = 8,
    .vectors = 2,
    .block = 4,
    .macs = 100,
    .quads = quads_avxvnni,
    .tile = tile_avxvnni,
    .spread = qsdk_conv_int8_spread_avxvnni,
    .rows = qsdk_conv_int8_rows_avxvnni,
};
#endif
