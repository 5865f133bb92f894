/* AVX-512 with VNNI: a tile is up to 3 vectors of 16 positions times 8 outputs, 24 accumulators. A
 * step loads 3 vectors of quads, broadcasts 8 quads of weights, and adds 24 times 64 products: the
 * multiplier limits it, and results of float32 leave from the registers. */
#include "conv_int8_results.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,popcnt")))
#define TILE_INLINE TARGET static inline __attribute__((always_inline))

enum { VECTORS = 3 };

/* The quads of 16 positions that are so many bytes apart. Positions 4 i to 4 i + 3 go to part i of
 * 16 bytes: first the words that they are in, then their bytes. */
TILE_INLINE __m512i load_avx512vnni(const uint8_t *x, size_t unit)
{
    if (unit == 4)
        return _mm512_loadu_si512(x);
    if (unit == 1) {
        const __m512i words = _mm512_setr_epi32(0, 1, 0, 0, 1, 2, 0, 0, 2, 3, 0, 0, 3, 4, 0, 0);
        const __m512i bytes = _mm512_broadcast_i32x4(
            _mm_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6));
        return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(words, _mm512_loadu_si512(x)), bytes);
    }
    if (unit == 2) {
        const __m512i words = _mm512_setr_epi32(0, 1, 2, 0, 2, 3, 4, 0, 4, 5, 6, 0, 6, 7, 8, 0);
        const __m512i bytes = _mm512_broadcast_i32x4(
            _mm_setr_epi8(0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7, 8, 9));
        return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(words, _mm512_loadu_si512(x)), bytes);
    }
    uint8_t quads[64];
    gather_portable(x, unit, 16, quads);
    return _mm512_loadu_si512(quads);
}

TARGET static void quads_avx512vnni(const uint8_t *const rows[4], size_t step, size_t n,
                                    uint8_t *to)
{
    if (step > 2) {
        quads_inlined_portable(rows, step, n, to);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 some = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffff);
        __m512i quad = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (int b = 3; b >= 0; b--) {
            const __m512i byte =
                step == 1 ? _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, rows[b] + i))
                          : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, rows[b] + 2 * i));
            quad = _mm512_or_si512(_mm512_slli_epi32(quad, 8),
                                   _mm512_and_si512(byte, _mm512_set1_epi32(0xff)));
        }
        _mm512_mask_storeu_epi32(to + 4 * i, some, quad);
    }
}

/* Results of float32 from sums [outputs][QSDK_CONV_INT8_POSITIONS]. */
TARGET static void floats_avx512vnni(const tile_t *tile, const int32_t *sums)
{
    const struct qsdk_conv_int8_vector *at = tile->at, *last = at + tile->vectors - 1;
    const uint32_t end = last->place + (uint32_t)__builtin_popcount(last->within);
    __mmask16 kept[VECTORS];
    for (size_t v = 0; v < tile->vectors; v++) /* what the next vector writes may be written */
        kept[v] = (__mmask16)(end - at[v].place < 16 ? (1u << (end - at[v].place)) - 1 : 0xffff);
    float *y = tile->y;
    const __m512 low = _mm512_set1_ps(tile->layer->low), high = _mm512_set1_ps(tile->layer->high);
    for (size_t n = 0; n < tile->outputs; n++, sums += QSDK_CONV_INT8_POSITIONS, y += tile->apart) {
        const __m512 factor = _mm512_set1_ps(tile->factor[n]), bias = _mm512_set1_ps(tile->bias[n]);
        for (size_t v = 0; v < tile->vectors; v++) {
            const __mmask16 within = (__mmask16)at[v].within;
            float *to = y + (at[v].place - at->place);
            const __m512 exact = _mm512_cvtepi32_ps(_mm512_load_si512(sums + 16 * v));
            __m512 value = _mm512_add_ps(_mm512_mul_ps(exact, factor), bias);
            value = _mm512_min_ps(high, _mm512_max_ps(low, value)); /* NaN stays: the second */
            if (within != 0xffff)
                value = _mm512_maskz_compress_ps(within, value);
            if (kept[v] == 0xffff)
                _mm512_storeu_ps(to, value);
            else
                _mm512_mask_storeu_ps(to, kept[v], value);
        }
    }
}

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void sum_avx512vnni(const tile_t *tile, int32_t *sums, const int block,
                                const int vectors, const size_t unit)
{
    __m512i acc[QSDK_CONV_INT8_BLOCK][VECTORS];
#pragma GCC unroll 8
    for (int n = 0; n < block; n++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            acc[n][v] = _mm512_set1_epi32(tile->start[n]);
    const uint8_t *w = tile->weights, *x[VECTORS];
#pragma GCC unroll 3
    for (int v = 0; v < vectors; v++)
        x[v] = tile->x + unit * tile->at[v].position;
    for (size_t k = 0; k < tile->layer->steps; k++, w += 4 * block) {
        const size_t offset = tile->layer->offsets[k];
        __m512i quads[VECTORS];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            quads[v] = load_avx512vnni(x[v] + offset, unit);
#pragma GCC unroll 8
        for (int n = 0; n < block; n++) {
            int32_t four;
            memcpy(&four, w + 4 * n, sizeof four);
            const __m512i weights = _mm512_set1_epi32(four);
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++)
                acc[n][v] = _mm512_dpbusd_epi32(acc[n][v], quads[v], weights);
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < block; n++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            _mm512_store_si512(sums + n * QSDK_CONV_INT8_POSITIONS + 16 * v, acc[n][v]);
}

#define SUMS(name, block, unit) \
    TARGET static void sums_##name##_avx512vnni(const tile_t *tile, int32_t *sums) \
    { \
        if (tile->vectors == 3) \
            sum_avx512vnni(tile, sums, block, 3, unit); \
        else if (tile->vectors == 2) \
            sum_avx512vnni(tile, sums, block, 2, unit); \
        else \
            sum_avx512vnni(tile, sums, block, 1, unit); \
    }

SUMS(quads_8, 8, 4)
SUMS(quads_4, 4, 4)
SUMS(quads_2, 2, 4)
SUMS(quads_1, 1, 4)
SUMS(bytes_8, 8, tile->layer->unit)
SUMS(bytes_4, 4, tile->layer->unit)
SUMS(bytes_2, 2, tile->layer->unit)
SUMS(bytes_1, 1, 1)
SUMS(pairs_1, 1, 2)
SUMS(any_1, 1, tile->layer->unit)

/* The kernel for log2 of the block, then for units of 4, 1, 2 and other bytes. */
static void (*const kernels_avx512vnni[4][4])(const tile_t *tile, int32_t *sums) = {
    {sums_quads_1_avx512vnni, sums_bytes_1_avx512vnni, sums_pairs_1_avx512vnni,
     sums_any_1_avx512vnni},
    {sums_quads_2_avx512vnni, sums_bytes_2_avx512vnni, sums_bytes_2_avx512vnni,
     sums_bytes_2_avx512vnni},
    {sums_quads_4_avx512vnni, sums_bytes_4_avx512vnni, sums_bytes_4_avx512vnni,
     sums_bytes_4_avx512vnni},
    {sums_quads_8_avx512vnni, sums_bytes_8_avx512vnni, sums_bytes_8_avx512vnni,
     sums_bytes_8_avx512vnni},
};

TARGET static void tile_avx512vnni(const tile_t *tile)
{
    _Alignas(64) int32_t sums[QSDK_CONV_INT8_BLOCK * QSDK_CONV_INT8_POSITIONS];
    const size_t unit = tile->layer->unit;
    const int column = unit == 4 ? 0 : unit == 1 ? 1 : unit == 2 ? 2 : 3;
    kernels_avx512vnni[__builtin_ctz((unsigned)tile->block)][column](tile, sums);
    if (tile->layer->output == QSDK_LINEAR_INT8_FLOAT)
        floats_avx512vnni(tile, sums);
    else
        results_portable(tile, sums, 16);
}

/* By output: 8 places times up to 3 blocks of 8 outputs, 24 accumulators. A step broadcasts 8 quads
 * and loads 3 vectors of weights. sums: [blocks][8 places][8 outputs]. */
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

TARGET static void places_avx512vnni(const tile_t *tile, size_t blocks)
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

const struct qsdk_conv_int8_set qsdk_conv_int8_avx512vnni = {
    .name = "avx512vnni",
    .coding = &qsdk_linear_int8_avx512vnni,
    .lanes = 16,
    .vectors = VECTORS,
    .block = 8,
    .macs = 128,
    .quads = quads_avx512vnni,
    .tile = tile_avx512vnni,
    .places = places_avx512vnni,
};
#endif
