/* Plain C, which every other set must equal. One iteration is a unit: 64 bytes of codes taken
 * apart, and each of the 16 columns summed over four k at a time. On x86-64 the products limit it:
 * SSE2 multiplies two int32 at a time. */
#include "linear_groups.h"

#include <string.h>

typedef const struct qsdk_linear_groups layer_t;
typedef const struct qsdk_linear_groups_tile tile_t;

static uint32_t largest_portable(const float *x, size_t n)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    return largest;
}

/* Beside 1.5 * 2^23 a float has no bits for a fraction, so that the addition rounds. */
static int32_t code_portable(const float *x, size_t n, float scale, int8_t *codes)
{
    const float shift = 0x1.8p23f;
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) {
        float steps = x[i] / scale;
        steps = steps > -128 ? steps : -128;
        steps = steps < 127 ? steps : 127;
        const float shifted = steps + shift;
        codes[i] = (int8_t)(int32_t)(shifted - shift);
        sum += codes[i];
    }
    return sum;
}

static void finish_portable(layer_t *layer, size_t block, const float *total, float *y)
{
    const float *bias = layer->bias + block * QSDK_COLUMNS;
    const size_t columns = qsdk_linear_groups_columns_portable(layer, block);
    for (size_t n = 0; n < columns; n++) {
        float value = total[n] + bias[n];
        value = value < layer->low ? layer->low : value; /* NaN stays NaN */
        y[n] = value > layer->high ? layer->high : value;
    }
}

static void codes_portable(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const uint32_t mask = (1u << layer->width) - 1;
    const int8_t *rows = tile->x;
    for (size_t m = 0; m < tile->rows; m++) {
        const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
        const int8_t *x = rows + 4 * m;
        float total[QSDK_COLUMNS] = {0};
        for (size_t g = 0; g < layer->groups; g++) {
            const size_t at = (block * layer->groups + g) * QSDK_COLUMNS;
            int32_t acc[QSDK_COLUMNS];
            for (size_t n = 0; n < QSDK_COLUMNS; n++)
                acc[n] = tile->start[g * tile->rows + m] * (layer->zeros ? layer->zeros[at + n] : 1);
            for (size_t u = g + 1 < layer->groups ? in.whole : in.last; u > 0; u--) {
                for (int bit = 0; bit < 8; bit += layer->width, x += 4 * tile->rows)
                    for (size_t n = 0; n < QSDK_COLUMNS; n++)
                        for (size_t j = 0; j < 4; j++)
                            acc[n] += (int32_t)((uint32_t)codes[4 * n + j] >> bit & mask) * x[j];
                codes += QSDK_UNIT;
            }
            for (size_t n = 0; n < QSDK_COLUMNS; n++)
                total[n] += (float)acc[n] * (tile->scale[g * tile->rows + m] * layer->scale[at + n]);
        }
        finish_portable(layer, block, total, y + m * layer->columns);
    }
}

/* sum[n] += x * (u - zero) over one unit of one row. */
static void unit_portable(const uint8_t *codes, int width, const float *zero, const float *x,
                          size_t stride, float *sum)
{
    const uint32_t mask = (1u << width) - 1;
    for (int bit = 0; bit < 8; bit += width)
        for (size_t j = 0; j < 4; j++, x += stride)
            for (size_t n = 0; n < QSDK_COLUMNS; n++)
                sum[n] += *x * ((float)(int32_t)((uint32_t)codes[4 * n + j] >> bit & mask) - zero[n]);
}

static void floats_portable(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const float *rows = tile->x;
    for (size_t m = 0; m < tile->rows; m++) {
        const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
        const float *x = rows + m;
        float total[QSDK_COLUMNS] = {0};
        for (size_t g = 0; g < layer->groups; g++) {
            const size_t at = (block * layer->groups + g) * QSDK_COLUMNS;
            float zero[QSDK_COLUMNS], sum[QSDK_COLUMNS] = {0};
            for (size_t n = 0; n < QSDK_COLUMNS; n++)
                zero[n] = (float)(layer->zeros ? layer->zeros[at + n] : layer->zero);
            for (size_t u = g + 1 < layer->groups ? in.whole : in.last; u > 0; u--) {
                unit_portable(codes, layer->width, zero, x, tile->rows, sum);
                codes += QSDK_UNIT;
                x += qsdk_linear_groups_unit_portable(layer->width) * tile->rows;
            }
            for (size_t n = 0; n < QSDK_COLUMNS; n++)
                total[n] += sum[n] * layer->scale[at + n];
        }
        finish_portable(layer, block, total, y + m * layer->columns);
    }
}

const struct qsdk_linear_groups_set qsdk_linear_groups_portable = {
    .name = "portable",
    .rows = 4,
    .largest = largest_portable,
    .code = code_portable,
    .codes = codes_portable,
    .floats = floats_portable,
};
