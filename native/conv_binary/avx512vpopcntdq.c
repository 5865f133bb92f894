/* One iteration: 64 channels of 32 outputs against a word of each column. Lanes are outputs, so that
 * nothing is ever summed across lanes. Limited by three operations (xor, count, add) for 512
 * places; columns share the loads of weights. */
#include "conv_binary_tile.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vpopcntdq")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { ROWS = 32, VECTORS = ROWS / 8 };

/* Adds some words of channels. */
INLINE void words_avx512vpopcntdq(const uint8_t *w, const uint8_t *const *x, size_t step,
                                  size_t count, const int columns, __m512i sums[][VECTORS])
{
    for (size_t word = 0; word < count; word++, w += 8 * ROWS) {
        __m512i in[QSDK_CONV_BINARY_COLUMNS];
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) {
            long long signs;
            memcpy(&signs, x[c] + word * step, sizeof signs);
            in[c] = _mm512_set1_epi64(signs);
        }
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++) {
            const __m512i weights = _mm512_loadu_si512(w + 64 * v);
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++) {
                const __m512i miss = _mm512_popcnt_epi64(_mm512_xor_si512(weights, in[c]));
                sums[c][v] = _mm512_add_epi64(sums[c][v], miss);
            }
        }
    }
}

INLINE void misses_avx512vpopcntdq(const binary_tile_t *tile, const uint8_t *weights, const int columns,
                                   int32_t *misses)
{
    const struct runs runs = runs_portable(tile);
    __m512i sums[QSDK_CONV_BINARY_COLUMNS][VECTORS];
#pragma GCC unroll 4
    for (int c = 0; c < columns; c++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            sums[c][v] = _mm512_setzero_si512();
    for (size_t i = 0; i < tile->down; i++)
        for (size_t run = 0; run < runs.count; run++) {
            const uint8_t *x[QSDK_CONV_BINARY_COLUMNS];
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++)
                x[c] = column_portable(tile, c) + i * runs.x_down + run * runs.x_step;
            words_avx512vpopcntdq(weights + i * runs.w_down + run * runs.w_step, x,
                                  8 * (size_t)tile->layer->bits, runs.lanes, columns, sums);
        }
#pragma GCC unroll 4
    for (int c = 0; c < columns; c++)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; v++)
            _mm256_storeu_si256((__m256i *)(void *)(misses + c * ROWS + 8 * v),
                                _mm512_cvtepi64_epi32(sums[c][v]));
}

TARGET static void tile_avx512vpopcntdq(const binary_tile_t *tile, float *y)
{
    QSDK_CONV_BINARY_TILE(misses_avx512vpopcntdq, ROWS);
}

const struct qsdk_conv_binary_set qsdk_conv_binary_avx512vpopcntdq = {
    .name = "avx512vpopcntdq",
    .coding = &qsdk_sign_codes_avx512bw,
    .lane_bytes = 8,
    .code_bytes = 8,
    .block_rows = ROWS,
    .tile = tile_avx512vpopcntdq,
};

#endif
