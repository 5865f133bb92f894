/* AVX-512 with VNNI: a tile is up to 3 vectors of 16 positions times 8 outputs, 24 accumulators. A
 * step loads 3 vectors of quads, broadcasts 8 quads of weights, and adds 24 times 64 products: the
 * multiplier limits it, and results of float32 leave from the registers. */
#include "conv_int8_results.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,popcnt")))
#define TILE_INLINE TARGET static inline __attribute__((always_inline))

TARGET static void quads_avx512vnni(const uint8_t *const rows[4], size_t step, size_t n,
                                    uint8_t *to)
{
    if (step != 1) {
        quads_inlined_portable(rows, step, n, to);
        return;
    }
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 some = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffff);
        __m512i quad = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, rows[0] + i));
        for (int b = 1; b < 4; b++) {
            const __m512i byte = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, rows[b] + i));
            quad = _mm512_or_si512(quad, _mm512_slli_epi32(byte, 8 * (unsigned)b));
        }
        _mm512_mask_storeu_epi32(to + 4 * i, some, quad);
    }
}

/* Which positions of a vector are within the result's width. */
static inline uint32_t within_avx512vnni(const tile_t *tile, size_t column, size_t positions)
{
    if (tile->pitch == tile->width)
        return positions < 16 ? (1u << positions) - 1 : 0xffff;
    uint32_t mask = 0;
    for (size_t p = 0; p < positions && p < 16;) {
        const size_t left = positions - p < 16 - p ? positions - p : 16 - p;
        const size_t here = column < tile->width ? tile->width - column : 0;
        const size_t run = here < left ? here : left;
        mask |= ((1u << run) - 1) << p;
        p += run + tile->pitch - (column > tile->width ? column : tile->width);
        column = 0;
    }
    return mask;
}

TILE_INLINE __m512 result_avx512vnni(__m512i acc, __m512 factor, __m512 bias, __m512 low,
                                     __m512 high)
{
    const __m512 y = _mm512_add_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), factor), bias);
    return _mm512_min_ps(high, _mm512_max_ps(low, y)); /* NaN stays: the second */
}

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void sum_avx512vnni(const tile_t *tile, const int block, const int vectors)
{
    __m512i acc[QSDK_CONV_INT8_BLOCK][3];
#pragma GCC unroll 8
    for (int n = 0; n < block; n++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            acc[n][v] = _mm512_set1_epi32(tile->start[n]);
    const uint8_t *w = tile->weights;
    for (size_t k = 0; k < tile->steps; k++, w += 4 * block) {
        const uint8_t *x = tile->x + tile->offsets[k];
        __m512i quads[3];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            quads[v] = _mm512_loadu_si512(x + 64 * v);
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
    if (tile->layer->output != QSDK_LINEAR_INT8_FLOAT) {
        int32_t all[QSDK_CONV_INT8_BLOCK * QSDK_CONV_INT8_POSITIONS];
#pragma GCC unroll 8
        for (int n = 0; n < block; n++)
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++)
                _mm512_storeu_si512(all + n * QSDK_CONV_INT8_POSITIONS + 16 * v, acc[n][v]);
        results_portable(tile, all);
        return;
    }
    uint32_t within[3];
    size_t place[3], next = 0;
    for (int v = 0; v < vectors; v++) {
        const size_t p = 16 * (size_t)v;
        const size_t column = (tile->column + p) % tile->pitch;
        within[v] = p < tile->positions ? within_avx512vnni(tile, column, tile->positions - p) : 0;
        place[v] = next;
        next += (size_t)__builtin_popcount(within[v]);
    }
    const __m512 low = _mm512_set1_ps(tile->layer->low), high = _mm512_set1_ps(tile->layer->high);
    float *y = tile->y;
#pragma GCC unroll 8
    for (int n = 0; n < block; n++) {
        if ((size_t)n >= tile->outputs)
            return;
        const __m512 factor = _mm512_set1_ps(tile->factor[n]), bias = _mm512_set1_ps(tile->bias[n]);
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++) {
            const __m512 value = result_avx512vnni(acc[n][v], factor, bias, low, high);
            const __mmask16 kept = (__mmask16)((1u << __builtin_popcount(within[v])) - 1);
            if (within[v] == 0xffff)
                _mm512_storeu_ps(y + place[v], value);
            else
                _mm512_mask_storeu_ps(y + place[v], kept,
                                      _mm512_maskz_compress_ps((__mmask16)within[v], value));
        }
        y += tile->apart;
    }
}

#define SUMS(block) \
    TARGET static void sums_##block##_avx512vnni(const tile_t *tile) \
    { \
        if (tile->positions > 32) \
            sum_avx512vnni(tile, block, 3); \
        else if (tile->positions > 16) \
            sum_avx512vnni(tile, block, 2); \
        else \
            sum_avx512vnni(tile, block, 1); \
    }

SUMS(8)
SUMS(4)
SUMS(2)
SUMS(1)

TARGET static void tile_avx512vnni(const tile_t *tile)
{
    if (tile->block == 8)
        sums_8_avx512vnni(tile);
    else if (tile->block == 4)
        sums_4_avx512vnni(tile);
    else if (tile->block == 2)
        sums_2_avx512vnni(tile);
    else
        sums_1_avx512vnni(tile);
}

const struct qsdk_conv_int8_set qsdk_conv_int8_avx512vnni = {
    .name = "avx512vnni",
    .coding = &qsdk_linear_int8_avx512vnni,
    .positions = 48,
    .block = 8,
    .macs = 128,
    .quads = quads_avx512vnni,
    .tile = tile_avx512vnni,
};
#endif
