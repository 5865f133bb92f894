/* What the sets of 256-bit vectors share: a tile is up to 2 vectors of 8 positions times 4 outputs.
 * A set includes linear_int8_avx2.h and defines
 *
 *   SET(name), TARGET        name with the suffix of the set; its target attribute
 *   WEIGHTS                  bytes of four weights
 *   codes_t, SET(codes)(q)   a vector of quads, 8 positions, as it is multiplied
 *   SET(dot)(acc, codes, w)  adds the products with the four weights at w */
#if defined(SET) && defined(__x86_64__)
#include "conv_int8_results.h"

#define TILE_INLINE TARGET static inline __attribute__((always_inline))

TARGET static void SET(quads)(const uint8_t *const rows[4], size_t step, size_t n, uint8_t *to)
{
    quads_inlined_portable(rows, step, n, to);
}

/* The quads of 8 positions that are so many bytes apart. */
TILE_INLINE ints_t SET(load_quads)(const uint8_t *x, size_t unit)
{
    if (unit == 4)
        return load_avx2(x);
    if (unit == 1) {
        const ints_t spread = _mm256_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 4, 5,
                                                6, 7, 5, 6, 7, 8, 6, 7, 8, 9, 7, 8, 9, 10);
        const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)x);
        return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);
    }
    uint8_t quads[32];
    gather_portable(x, unit, 8, quads);
    return load_avx2(quads);
}

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void SET(sum)(const tile_t *tile, int32_t *sums, const int block, const int vectors,
                          const size_t unit)
{
    ints_t acc[4][2];
#pragma GCC unroll 4
    for (int n = 0; n < block; n++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            acc[n][v] = all_avx2(tile->start[n]);
    const uint8_t *w = tile->weights, *x[2];
    for (int v = 0; v < vectors; v++)
        x[v] = tile->x + unit * tile->at[v].position;
    for (size_t k = 0; k < tile->layer->steps; k++, w += WEIGHTS * block) {
        const size_t offset = tile->layer->offsets[k];
        codes_t codes[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            codes[v] = SET(codes)(SET(load_quads)(x[v] + offset, unit));
#pragma GCC unroll 4
        for (int n = 0; n < block; n++)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++)
                acc[n][v] = keep_avx2(SET(dot)(acc[n][v], codes[v], w + WEIGHTS * n));
    }
#pragma GCC unroll 4
    for (int n = 0; n < block; n++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            store_ints_avx2(sums + n * QSDK_CONV_INT8_POSITIONS + 8 * v, acc[n][v]);
}

#define SUMS(name, unit) \
    TARGET static void SET(name)(const tile_t *tile, int32_t *sums) \
    { \
        const int is_long = tile->vectors > 1; \
        if (tile->block == 4 && is_long) \
            SET(sum)(tile, sums, 4, 2, unit); \
        else if (tile->block == 4) \
            SET(sum)(tile, sums, 4, 1, unit); \
        else if (tile->block == 2 && is_long) \
            SET(sum)(tile, sums, 2, 2, unit); \
        else if (tile->block == 2) \
            SET(sum)(tile, sums, 2, 1, unit); \
        else if (is_long) \
            SET(sum)(tile, sums, 1, 2, unit); \
        else \
            SET(sum)(tile, sums, 1, 1, unit); \
    }

SUMS(sums_of_quads, 4)
SUMS(sums_of_bytes, 1)
SUMS(sums_of_any, tile->layer->unit)

/* How many lanes of each vector are within the result's width, and which: most vectors are full. */
struct SET(within) {
    size_t count[2], all;
    int32_t lanes[2][8];
};

TILE_INLINE void SET(find_within)(const tile_t *tile, struct SET(within) *found)
{
    found->all = 0;
    for (size_t v = 0; v < tile->vectors; v++) {
        const uint32_t within = tile->at[v].within;
        size_t count = 0;
        if (within == 0xff)
            count = 8;
        else
            for (int p = 0; p < 8; p++) {
                found->lanes[v][count & 7] = p;
                count += within >> p & 1;
            }
        found->count[v] = count;
        found->all += count;
    }
}

/* Moves the results of vector v that are within together. */
TILE_INLINE ints_t SET(dense)(const struct SET(within) *within, size_t v, ints_t results)
{
    if (within->count[v] == 8)
        return results;
    return _mm256_permutevar8x32_epi32(results, load_ints_avx2(within->lanes[v]));
}

/* A vector is written whole where what lies behind its results are others of the tile: the next
 * vector writes those. Behind the tile is what may be another thread's. */
TARGET static void SET(floats)(const tile_t *tile, const int32_t *sums)
{
    struct SET(within) within;
    SET(find_within)(tile, &within);
    const floats_t low = all_floats_avx2(tile->layer->low), high = all_floats_avx2(tile->layer->high);
    float *y = tile->y;
    for (size_t n = 0; n < tile->outputs; n++, sums += QSDK_CONV_INT8_POSITIONS, y += tile->apart) {
        const floats_t factor = all_floats_avx2(tile->factor[n]), bias = all_floats_avx2(tile->bias[n]);
        size_t done = 0;
        for (size_t v = 0; v < tile->vectors; done += within.count[v++]) {
            const ints_t exact = SET(dense)(&within, v, load_ints_avx2(sums + 8 * v));
            floats_t value = add_floats_avx2(multiply_floats_avx2(to_floats_avx2(exact), factor), bias);
            value = least_avx2(high, most_avx2(low, value)); /* NaN stays: the second */
            if (done + 8 <= within.all) {
                store_floats_avx2(y + done, value);
            } else {
                float last[8];
                store_floats_avx2(last, value);
                memcpy(y + done, last, within.count[v] * sizeof *y);
            }
        }
    }
}

TARGET static void SET(requantized)(const tile_t *tile, const int32_t *sums)
{
    struct SET(within) within;
    SET(find_within)(tile, &within);
    const struct qsdk_conv_int8 *layer = tile->layer;
    const int low = layer->output_low - layer->output_zero;
    const int high = layer->output_high - layer->output_zero;
    uint8_t *y = tile->y;
    for (size_t n = 0; n < tile->outputs; n++, sums += QSDK_CONV_INT8_POSITIONS, y += tile->apart) {
        const ints_t mantissa = _mm256_set1_epi64x(tile->mantissa[n]);
        const ints_t addend = _mm256_set1_epi64x(tile->addend[n]);
        const ints_t right = _mm256_set1_epi64x(tile->right[n]);
        size_t done = 0;
        for (size_t v = 0; v < tile->vectors; done += within.count[v++]) {
            ints_t four[2];
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++)
                four[i] = requantize_four_avx2(load_four_avx2(sums + 8 * v + 4 * i), mantissa, addend,
                                               right, low, high);
            const ints_t steps = SET(dense)(&within, v, join_avx2(four[0], four[1]));
            const ints_t codes = add_avx2(steps, all_avx2(layer->output_zero));
            if (done + 8 <= within.all) {
                store_bytes_avx2(y + done, codes);
            } else {
                uint8_t last[8];
                store_bytes_avx2(last, codes);
                memcpy(y + done, last, within.count[v]);
            }
        }
    }
}

TARGET static void SET(tile)(const tile_t *tile)
{
    int32_t sums[4 * QSDK_CONV_INT8_POSITIONS];
    if (tile->layer->unit == 4)
        SET(sums_of_quads)(tile, sums);
    else if (tile->layer->unit == 1)
        SET(sums_of_bytes)(tile, sums);
    else
        SET(sums_of_any)(tile, sums);
    if (tile->layer->output == QSDK_LINEAR_INT8_FLOAT)
        SET(floats)(tile, sums);
    else if (tile->layer->output == QSDK_LINEAR_INT8_REQUANTIZED)
        SET(requantized)(tile, sums);
    else
        results_portable(tile, sums, 8);
}
#endif
