/* Inlined into the sets: how they go over what a tile sees, and what they make of the misses. */
#ifndef QSDK_CONV_BINARY_TILE_H
#define QSDK_CONV_BINARY_TILE_H

#include "conv_binary.h"

#include <string.h>

#if defined(__GNUC__)
#define QSDK_INLINE static inline __attribute__((always_inline))
#else
#define QSDK_INLINE static inline
#endif

typedef struct qsdk_conv_binary_tile binary_tile_t;

/* Runs of lanes that lie in a row, in the weights as in the codes: a whole row of what is seen, or
 * one place of it where the kernel is dilated. */
struct runs {
    size_t count, lanes;
    size_t x_step, w_step; /* bytes to the next in the same row */
    size_t x_down, w_down; /* to the next row */
};

QSDK_INLINE struct runs runs_portable(const binary_tile_t *tile)
{
    const qsdk_conv_binary *layer = tile->layer;
    const size_t place = qsdk_conv_binary_place_bytes_portable(layer);
    const size_t tap = qsdk_conv_binary_tap_bytes_portable(layer);
    const int is_whole = layer->dilation[1] == 1;
    return (struct runs){
        .count = is_whole ? 1 : tile->across,
        .lanes = qsdk_conv_binary_lanes_portable(layer) * (is_whole ? tile->across : 1),
        .x_step = layer->dilation[1] * place,
        .w_step = tap,
        .x_down = layer->dilation[0] * layer->width * place,
        .w_down = layer->kernel[1] * tap,
    };
}

/* Where in the codes a column begins. */
QSDK_INLINE const uint8_t *column_portable(const binary_tile_t *tile, int column)
{
    const size_t bits = (size_t)tile->layer->bits, c = (size_t)column;
    return tile->x + c / bits * tile->apart + c % bits * tile->layer->set->code_bytes;
}

/* Adds alpha times t of a plane of the weight, the first to 0; misses: [column][rows]. */
QSDK_INLINE void weigh_portable(const binary_tile_t *tile, int plane, const int32_t *misses,
                                const int rows, float *y)
{
    const float *alpha = tile->alpha + plane * rows, *scale = tile->scale;
    const int bits = tile->layer->bits;
    for (int p = 0; p < tile->positions; p++, y += rows) {
        float t[QSDK_CONV_BINARY_ROWS];
        for (int r = 0; r < rows; r++)
            t[r] = 0.0f + *scale * (float)(tile->places - 2 * misses[r]);
        misses += rows, scale++;
        for (int j = 1; j < bits; j++, misses += rows, scale++)
            for (int r = 0; r < rows; r++)
                t[r] += *scale * (float)(tile->places - 2 * misses[r]);
        for (int r = 0; r < rows; r++)
            y[r] = (plane ? y[r] : 0.0f) + alpha[r] * t[r];
    }
}

/* The body of a set's tile function: `misses_of(tile, weights, columns, misses)` with a constant
 * number of columns, for each plane of the weight. */
#define QSDK_CONV_BINARY_TILE(misses_of, rows)                                                     \
    do {                                                                                           \
        const int columns = tile->positions * tile->layer->bits;                                   \
        const size_t plane_bytes = qsdk_conv_binary_plane_bytes_portable(tile->layer);             \
        int32_t misses[QSDK_CONV_BINARY_COLUMNS * (rows)];                                         \
        for (int i = 0; i < tile->layer->planes; i++) {                                            \
            const uint8_t *weights = tile->weights + (size_t)i * plane_bytes;                      \
            if (columns == 4)                                                                      \
                misses_of(tile, weights, 4, misses);                                               \
            else if (columns == 3)                                                                 \
                misses_of(tile, weights, 3, misses);                                               \
            else if (columns == 2)                                                                 \
                misses_of(tile, weights, 2, misses);                                               \
            else                                                                                   \
                misses_of(tile, weights, 1, misses);                                               \
            weigh_portable(tile, i, misses, rows, y);                                              \
        }                                                                                          \
    } while (0)

#endif
