/* Quads and results in plain C, for every set: inlined into a function of the set's target, the
 * compiler makes them vectors of that target. */
#ifndef QSDK_CONV_INT8_RESULTS_H
#define QSDK_CONV_INT8_RESULTS_H

#include "conv_int8_set.h"

#include <string.h>

#if defined(__GNUC__)
#define INLINED static inline __attribute__((always_inline, unused))
#else
#define INLINED static inline
#endif

typedef struct qsdk_conv_int8_tile tile_t;

INLINED void few_quads_portable(const uint8_t *const rows[4], size_t step, size_t n, uint8_t *to)
{
    const uint8_t *a = rows[0], *b = rows[1], *c = rows[2], *d = rows[3];
    for (size_t i = 0; i < n; i++) {
        to[4 * i] = a[i * step];
        to[4 * i + 1] = b[i * step];
        to[4 * i + 2] = c[i * step];
        to[4 * i + 3] = d[i * step];
    }
}

/* The strides that networks have get loops of their own. */
INLINED void quads_inlined_portable(const uint8_t *const rows[4], size_t step, size_t n,
                                    uint8_t *to)
{
    if (step == 1)
        few_quads_portable(rows, 1, n, to);
    else if (step == 2)
        few_quads_portable(rows, 2, n, to);
    else
        few_quads_portable(rows, step, n, to);
}

/* Moves the accumulators of positions within the result's width together; returns how many. */
INLINED size_t dense_portable(const tile_t *tile, int32_t *acc, size_t lanes)
{
    const uint32_t full = (uint32_t)((UINT64_C(1) << lanes) - 1);
    size_t count = 0;
    for (size_t v = 0; v < tile->vectors; v++) {
        const uint32_t within = tile->at[v].within;
        if (within == full) {
            memmove(acc + count, acc + v * lanes, lanes * sizeof *acc);
            count += lanes;
            continue;
        }
        for (size_t p = 0; p < lanes; p++) {
            acc[count] = acc[v * lanes + p];
            count += within >> p & 1;
        }
    }
    return count;
}

/* The quads of a vector's positions, for any step between them; for the strides that are rare. */
INLINED void gather_portable(const uint8_t *x, size_t step, size_t lanes, uint8_t *quads)
{
    for (size_t p = 0; p < lanes; p++)
        memcpy(quads + 4 * p, x + p * step, 4);
}

INLINED void floats_portable(const tile_t *tile, size_t n, const int32_t *acc, size_t count)
{
    float *y = (float *)tile->y + n * tile->apart;
    const float factor = tile->factor[n], bias = tile->bias[n];
    const float low = tile->layer->low, high = tile->layer->high;
    for (size_t i = 0; i < count; i++) {
        float value = (float)acc[i] * factor;
        value = value + bias;
        value = low > value ? low : value;
        y[i] = high < value ? high : value;
    }
}

INLINED void codes_portable(const tile_t *tile, size_t n, const int32_t *acc, size_t count)
{
    uint8_t *y = (uint8_t *)tile->y + n * tile->apart;
    const struct qsdk_conv_int8 *layer = tile->layer;
    const int64_t low = layer->output_low - layer->output_zero;
    const int64_t high = layer->output_high - layer->output_zero;
    const int64_t mantissa = tile->mantissa[n], addend = tile->addend[n];
    const int32_t right = tile->right[n];
    for (size_t i = 0; i < count; i++) {
        int64_t steps = (acc[i] * mantissa + addend) >> right;
        steps = steps < low ? low : steps > high ? high : steps;
        y[i] = (uint8_t)(steps + layer->output_zero);
    }
}

/* The results of output n from as many accumulators. */
INLINED void result_portable(const tile_t *tile, size_t n, const int32_t *acc, size_t count)
{
    if (tile->layer->output == QSDK_LINEAR_INT8_FLOAT)
        floats_portable(tile, n, acc, count);
    else if (tile->layer->output == QSDK_LINEAR_INT8_REQUANTIZED)
        codes_portable(tile, n, acc, count);
    else
        memcpy((int32_t *)tile->y + n * tile->apart, acc, count * sizeof *acc);
}

/* acc: [block][QSDK_CONV_INT8_POSITIONS], in place. */
INLINED void results_portable(const tile_t *tile, int32_t *acc, size_t lanes)
{
    for (size_t n = 0; n < tile->outputs; n++, acc += QSDK_CONV_INT8_POSITIONS)
        result_portable(tile, n, acc, dense_portable(tile, acc, lanes));
}

#endif
