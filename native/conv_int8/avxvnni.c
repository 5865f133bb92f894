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

/* The quads of 8 positions that are so many bytes apart. */
TILE_INLINE __m256i load_avxvnni(const uint8_t *x, size_t unit)
{
    if (unit == 4)
        return _mm256_loadu_si256((const __m256i *)(const void *)x);
    if (unit == 1) {
        const __m256i spread = _mm256_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 4, 5,
                                                6, 7, 5, 6, 7, 8, 6, 7, 8, 9, 7, 8, 9, 10);
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)x);
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);
    }
    uint8_t quads[32];
    gather_portable(x, unit, 8, quads);
    return _mm256_loadu_si256((const __m256i *)(const void *)quads);
}

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void sum_avxvnni(const tile_t *tile, const int block, const int vectors,
                             const size_t unit)
{
    __m256i acc[4][2];
    for (int n = 0; n < block; n++)
        for (int v = 0; v < vectors; v++)
            acc[n][v] = _mm256_set1_epi32(tile->start[n]);
    const uint8_t *w = tile->weights, *x[2];
    for (int v = 0; v < vectors; v++)
        x[v] = tile->x + unit * tile->at[v].position;
    for (size_t k = 0; k < tile->layer->steps; k++, w += 4 * block) {
        const size_t offset = tile->layer->offsets[k];
        __m256i quads[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            quads[v] = load_avxvnni(x[v] + offset, unit);
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
    results_portable(tile, all, 8);
}

#define SUMS(unit_name, unit) \
    TARGET static void sums_##unit_name##_avxvnni(const tile_t *tile) \
    { \
        const int is_long = tile->vectors > 1; \
        if (tile->block == 4 && is_long) \
            sum_avxvnni(tile, 4, 2, unit); \
        else if (tile->block == 4) \
            sum_avxvnni(tile, 4, 1, unit); \
        else if (tile->block == 2 && is_long) \
            sum_avxvnni(tile, 2, 2, unit); \
        else if (tile->block == 2) \
            sum_avxvnni(tile, 2, 1, unit); \
        else if (is_long) \
            sum_avxvnni(tile, 1, 2, unit); \
        else \
            sum_avxvnni(tile, 1, 1, unit); \
    }

SUMS(quads, 4)
SUMS(bytes, 1)
SUMS(any, tile->layer->unit)

TARGET static void tile_avxvnni(const tile_t *tile)
{
    if (tile->layer->unit == 4)
        sums_quads_avxvnni(tile);
    else if (tile->layer->unit == 1)
        sums_bytes_avxvnni(tile);
    else
        sums_any_avxvnni(tile);
}

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
