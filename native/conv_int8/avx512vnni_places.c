/* AVX-512 with VNNI, by output: a tile is 8 places times up to 3 blocks of 8 outputs, 24 accumulators.
 * A step broadcasts 8 quads, loads 3 vectors of weights, and adds 24 times 32 products: the
 * multiplier limits it. The tile is turned around before it is written. */
#include "conv_int8_results.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,popcnt")))
#define TILE_INLINE TARGET static inline __attribute__((always_inline))

/* blocks is a constant: accumulators stay in registers. sums: [blocks][8 places][8 outputs]. */
TILE_INLINE void sum_places_avx512vnni(const tile_t *tile, int32_t *sums, const int blocks)
{
    const struct qsdk_conv_int8 *layer = tile->layer;
    const size_t steps = layer->steps, apart = 32 * steps; /* bytes from block to block */
    __m256i acc[QSDK_CONV_INT8_WIDE][QSDK_CONV_INT8_PLACES];
    const uint8_t *x[QSDK_CONV_INT8_PLACES], *w = tile->weights;
    size_t column = tile->at->place % layer->out_width;
    const uint8_t *at = tile->x + 4 * (size_t)tile->at->position;
#pragma GCC unroll 8
    for (int p = 0; p < QSDK_CONV_INT8_PLACES; p++) {
        x[p] = at;
        if (tile->at->within >> p >> 1 & 1) /* else the last place again */
            at += ++column < layer->out_width
                      ? 4
                      : (column = 0, 4 * (layer->pitch - layer->out_width + 1));
    }
#pragma GCC unroll 3
    for (int b = 0; b < blocks; b++)
#pragma GCC unroll 8
        for (int p = 0; p < QSDK_CONV_INT8_PLACES; p++)
            acc[b][p] = _mm256_loadu_si256((const __m256i *)(const void *)(tile->start + 8 * b));
    for (size_t k = 0; k < steps; k++, w += 32) {
        const size_t offset = layer->offsets[k];
        __m256i weights[QSDK_CONV_INT8_WIDE];
#pragma GCC unroll 3
        for (int b = 0; b < blocks; b++)
            weights[b] =
                _mm256_loadu_si256((const __m256i *)(const void *)(w + (size_t)b * apart));
#pragma GCC unroll 8
        for (int p = 0; p < QSDK_CONV_INT8_PLACES; p++) {
            int32_t four;
            memcpy(&four, x[p] + offset, sizeof four);
            const __m256i quad = _mm256_set1_epi32(four);
#pragma GCC unroll 3
            for (int b = 0; b < blocks; b++)
                acc[b][p] = _mm256_dpbusd_epi32(acc[b][p], quad, weights[b]);
        }
    }
#pragma GCC unroll 3
    for (int b = 0; b < blocks; b++)
#pragma GCC unroll 8
        for (int p = 0; p < QSDK_CONV_INT8_PLACES; p++)
            _mm256_store_si256((__m256i *)(void *)(sums + 64 * b + 8 * p), acc[b][p]);
}

#define SUM(blocks) \
    TARGET static void sum_##blocks##_avx512vnni(const tile_t *tile, int32_t *sums) \
    { \
        sum_places_avx512vnni(tile, sums, blocks); \
    }

SUM(1)
SUM(2)
SUM(3)

/* 8 places of 8 outputs become 8 outputs of 8 places. */
TARGET static void transpose_avx512vnni(int32_t *sums)
{
    __m256i *rows = (__m256i *)(void *)sums, pair[8], four[8];
#pragma GCC unroll 4
    for (int p = 0; p < 8; p += 2) {
        const __m256i first = _mm256_load_si256(rows + p), second = _mm256_load_si256(rows + p + 1);
        pair[p] = _mm256_unpacklo_epi32(first, second);
        pair[p + 1] = _mm256_unpackhi_epi32(first, second);
    }
#pragma GCC unroll 2
    for (int p = 0; p < 8; p += 4) {
        four[p] = _mm256_unpacklo_epi64(pair[p], pair[p + 2]);
        four[p + 1] = _mm256_unpackhi_epi64(pair[p], pair[p + 2]);
        four[p + 2] = _mm256_unpacklo_epi64(pair[p + 1], pair[p + 3]);
        four[p + 3] = _mm256_unpackhi_epi64(pair[p + 1], pair[p + 3]);
    }
#pragma GCC unroll 4
    for (int n = 0; n < 4; n++) {
        _mm256_store_si256(rows + n, _mm256_permute2x128_si256(four[n], four[n + 4], 0x20));
        _mm256_store_si256(rows + n + 4, _mm256_permute2x128_si256(four[n], four[n + 4], 0x31));
    }
}

TARGET static void float_places_avx512vnni(const tile_t *tile, const int32_t *sums)
{
    const __mmask8 some = (__mmask8)tile->at->within;
    const __m256 low = _mm256_set1_ps(tile->layer->low), high = _mm256_set1_ps(tile->layer->high);
    float *y = tile->y;
    for (size_t n = 0; n < tile->outputs; n++, y += tile->apart) {
        const __m256i acc = _mm256_load_si256((const __m256i *)(const void *)(sums + 8 * n));
        __m256 value = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_set1_ps(tile->factor[n]));
        value = _mm256_add_ps(value, _mm256_set1_ps(tile->bias[n]));
        value = _mm256_min_ps(high, _mm256_max_ps(low, value)); /* NaN stays: the second */
        if (some == 0xff)
            _mm256_storeu_ps(y, value);
        else
            _mm256_mask_storeu_ps(y, some, value);
    }
}

TARGET void qsdk_conv_int8_places_avx512vnni(const tile_t *tile, size_t blocks)
{
    _Alignas(64) int32_t sums[QSDK_CONV_INT8_WIDE * QSDK_CONV_INT8_BLOCK * QSDK_CONV_INT8_PLACES];
    if (blocks == 3)
        sum_3_avx512vnni(tile, sums);
    else if (blocks == 2)
        sum_2_avx512vnni(tile, sums);
    else
        sum_1_avx512vnni(tile, sums);
    for (size_t b = 0; b < blocks; b++)
        transpose_avx512vnni(sums + 64 * b);
    if (tile->layer->output == QSDK_LINEAR_INT8_FLOAT) {
        float_places_avx512vnni(tile, sums);
        return;
    }
    const size_t count = (size_t)__builtin_popcount(tile->at->within);
    for (size_t n = 0; n < tile->outputs; n++)
        result_portable(tile, n, sums + 8 * n, count);
}
#endif
