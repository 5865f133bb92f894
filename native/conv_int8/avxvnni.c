/* AVX-VNNI: a tile is up to 2 vectors of 8 positions times 4 outputs. A step adds four products of
 * bytes to every accumulator at once; the multiplier limits it. */
#include "conv_int8_results.h"

#if defined(__x86_64__) && (__GNUC__ >= 11 || defined(__clang__))
#include <immintrin.h>

#define TARGET __attribute__((target("avx2,avxvnni")))
#define TILE_INLINE TARGET static inline __attribute__((always_inline))

TARGET static void quads_avxvnni(const uint8_t *const rows[4], size_t step, size_t n, uint8_t *to)
{
    quads_inlined_portable(rows, step, n, to);
}

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void sum_avxvnni(const tile_t *tile, const int block, const int vectors)
{
    __m256i acc[4][2];
    for (int n = 0; n < block; n++)
        for (int v = 0; v < vectors; v++)
            acc[n][v] = _mm256_set1_epi32(tile->start[n]);
    const uint8_t *w = tile->weights;
    for (size_t k = 0; k < tile->steps; k++, w += 4 * block) {
        const uint8_t *x = tile->x + tile->offsets[k];
        __m256i quads[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            quads[v] = _mm256_loadu_si256((const __m256i *)(const void *)(x + 32 * v));
#pragma GCC unroll 4
        for (int n = 0; n < block; n++) {
            int32_t four;
            memcpy(&four, w + 4 * n, sizeof four);
            const __m256i weights = _mm256_set1_epi32(four);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                acc[n][v] = _mm256_dpbusd_avx_epi32(acc[n][v], quads[v], weights);
        }
    }
    int32_t all[4 * QSDK_CONV_INT8_POSITIONS];
    for (int n = 0; n < block; n++)
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_si256((__m256i *)(void *)(all + n * QSDK_CONV_INT8_POSITIONS + 8 * v),
                                acc[n][v]);
    results_portable(tile, all);
}

TARGET static void tile_avxvnni(const tile_t *tile)
{
    const int is_long = tile->positions > 8;
    if (tile->block == 4 && is_long)
        sum_avxvnni(tile, 4, 2);
    else if (tile->block == 4)
        sum_avxvnni(tile, 4, 1);
    else if (tile->block == 2 && is_long)
        sum_avxvnni(tile, 2, 2);
    else if (tile->block == 2)
        sum_avxvnni(tile, 2, 1);
    else if (is_long)
        sum_avxvnni(tile, 1, 2);
    else
        sum_avxvnni(tile, 1, 1);
}

const struct qsdk_conv_int8_set qsdk_conv_int8_avxvnni = {
    .name = "avxvnni",
    .coding = &qsdk_linear_int8_avx2,
    .positions = 16,
    .block = 4,
    .macs = 100,
    .quads = quads_avxvnni,
    .tile = tile_avxvnni,
};
#endif
