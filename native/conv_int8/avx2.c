/* AVX2: a tile is up to 2 vectors of 8 positions times 4 outputs. A step takes the even and the odd
 * bytes of a vector of quads apart, as 16-bit numbers, and multiplies both by pairs of 16-bit
 * weights: vpmaddwd adds two products in 32 bits, so nothing saturates. Multiplying and adding
 * limit it alike. */
#include "conv_int8_results.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define TILE_INLINE TARGET static inline __attribute__((always_inline))

TARGET static void quads_avx2(const uint8_t *const rows[4], size_t step, size_t n, uint8_t *to)
{
    quads_inlined_portable(rows, step, n, to);
}

TILE_INLINE __m256i pair_avx2(const uint8_t *w)
{
    int32_t pair;
    memcpy(&pair, w, sizeof pair);
    return _mm256_set1_epi32(pair);
}

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void sum_avx2(const tile_t *tile, const int block, const int vectors)
{
    __m256i acc[4][2];
    for (int n = 0; n < block; n++)
        for (int v = 0; v < vectors; v++)
            acc[n][v] = _mm256_set1_epi32(tile->start[n]);
    const uint8_t *w = tile->weights;
    for (size_t k = 0; k < tile->steps; k++, w += 8 * block) {
        const uint8_t *x = tile->x + tile->offsets[k];
        __m256i even[2], odd[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            const __m256i quads = _mm256_loadu_si256((const __m256i *)(const void *)(x + 32 * v));
            even[v] = _mm256_and_si256(quads, _mm256_set1_epi16(0xff));
            odd[v] = _mm256_srli_epi16(quads, 8);
        }
#pragma GCC unroll 4
        for (int n = 0; n < block; n++) {
            const __m256i first = pair_avx2(w + 8 * n), second = pair_avx2(w + 8 * n + 4);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) {
                acc[n][v] = _mm256_add_epi32(acc[n][v], _mm256_madd_epi16(even[v], first));
                acc[n][v] = _mm256_add_epi32(acc[n][v], _mm256_madd_epi16(odd[v], second));
            }
        }
    }
    int32_t all[4 * QSDK_CONV_INT8_POSITIONS];
    for (int n = 0; n < block; n++)
        for (int v = 0; v < vectors; v++)
            _mm256_storeu_si256((__m256i *)(void *)(all + n * QSDK_CONV_INT8_POSITIONS + 8 * v),
                                acc[n][v]);
    results_portable(tile, all);
}

TARGET static void tile_avx2(const tile_t *tile)
{
    const int is_long = tile->positions > 8;
    if (tile->block == 4 && is_long)
        sum_avx2(tile, 4, 2);
    else if (tile->block == 4)
        sum_avx2(tile, 4, 1);
    else if (tile->block == 2 && is_long)
        sum_avx2(tile, 2, 2);
    else if (tile->block == 2)
        sum_avx2(tile, 2, 1);
    else if (is_long)
        sum_avx2(tile, 1, 2);
    else
        sum_avx2(tile, 1, 1);
}

const struct qsdk_conv_int8_set qsdk_conv_int8_avx2 = {
    .name = "avx2",
    .coding = &qsdk_linear_int8_avx2,
    .is_wide = 1,
    .positions = 16,
    .block = 4,
    .macs = 40,
    .quads = quads_avx2,
    .tile = tile_avx2,
};
#endif
