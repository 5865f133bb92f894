/* Plain C: what the other files of this folder must equal. One step adds four products to every
 * accumulator of a tile; widening bytes limits it. */
#include "conv_int8_results.h"

enum { LANES = 16 };

static void quads_portable(const uint8_t *const rows[4], size_t step, size_t n, uint8_t *to)
{
    quads_inlined_portable(rows, step, n, to);
}

static void sum_portable(const tile_t *tile, size_t n, int32_t *acc)
{
    const size_t unit = tile->layer->unit;
    for (size_t v = 0; v < tile->vectors; v++, acc += LANES) {
        uint32_t sums[LANES]; /* modulo 2^32 on the way */
        for (size_t p = 0; p < LANES; p++)
            sums[p] = (uint32_t)tile->start[n];
        const int8_t *w = (const int8_t *)tile->weights + 4 * n;
        for (size_t k = 0; k < tile->layer->steps; k++, w += 4 * tile->block) {
            uint8_t x[4 * LANES];
            gather_portable(tile->x + unit * tile->at[v].position + tile->layer->offsets[k], unit,
                            LANES, x);
            for (size_t p = 0; p < LANES; p++)
                sums[p] += (uint32_t)(x[4 * p] * w[0] + x[4 * p + 1] * w[1] +
                                      x[4 * p + 2] * w[2] + x[4 * p + 3] * w[3]);
        }
        for (size_t p = 0; p < LANES; p++)
            acc[p] = (int32_t)sums[p];
    }
}

static void tile_portable(const tile_t *tile)
{
    int32_t acc[QSDK_CONV_INT8_BLOCK * QSDK_CONV_INT8_POSITIONS];
    for (size_t n = 0; n < tile->outputs; n++)
        sum_portable(tile, n, acc + n * QSDK_CONV_INT8_POSITIONS);
    results_portable(tile, acc, LANES);
}

const struct qsdk_conv_int8_set qsdk_conv_int8_portable = {
    .name = "portable",
    .coding = &qsdk_linear_int8_portable,
    .lanes = LANES,
    .vectors = 2,
    .block = 8,
    .macs = 2,
    .quads = quads_portable,
    .tile = tile_portable,
};
