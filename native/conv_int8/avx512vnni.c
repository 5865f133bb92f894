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

const struct qsdk_conv_int8_set qsdk_conv_int8_avx512vnni = {
    .name = "avx512vnni",
    .coding = &qsdk_linear_int8_avx512vnni,
    .lanes = 16,
    .vectors = VECTORS,
    .block = 8,
    .macs = 128,
    .quads = quads_avx512vnni,
    .tile = tile_avx512vnni,
    .places = qsdk_conv_int8_places_avx512vnni,
    .spread = qsdk_conv_int8_spread_avx512vnni,
    .rows = qsdk_conv_int8_rows_avx512vnni,
};
#endif
