/* Codes become planes: rows of quads or of bytes, with their padding. Bounded by reading and writing;
 * most of what is written here is read again from the L1 or L2 cache. */
#include "conv_int8_run.h"

#include <string.h>

typedef struct qsdk_conv_int8 layer_t;

static void fill_portable(uint8_t *quads, size_t n, int32_t zero)
{
    memset(quads, zero & 0xff, 4 * n);
}

/* Whether a step of the product starts in this phase of the stride. */
static int is_used_portable(size_t count, size_t apart, size_t stride, size_t phase)
{
    for (size_t k = 0; k < count; k++)
        if (k * apart % stride == phase)
            return 1;
    return 0;
}

/* The quads of a row of the padded image in one phase of its columns, from four rows of codes. */
static void columns_portable(const layer_t *layer, const uint8_t *const codes[4], size_t phase,
                             int32_t zero, uint8_t *to)
{
    const size_t step = layer->stride[1], begin = layer->begin[1], end = begin + layer->width;
    const size_t first = phase >= begin ? 0 : (begin - phase + step - 1) / step;
    const size_t last = phase >= end ? 0 : (end - phase + step - 1) / step;
    if (first >= last) {
        fill_portable(to, layer->pitch, zero);
        return;
    }
    const uint8_t *rows[4];
    for (int c = 0; c < 4; c++)
        rows[c] = codes[c] + (phase + first * step - begin);
    fill_portable(to, first, zero);
    layer->set->quads(rows, step, last - first, to + 4 * first);
    fill_portable(to + 4 * last, layer->pitch - last, zero);
}

/* One row of the padded image, in all its phases; codes is NULL where it is padding. */
static void row_portable(const layer_t *layer, const uint8_t *const codes[4], size_t row,
                         int32_t zero, uint8_t *plane)
{
    const size_t step = layer->stride[1];
    if (!is_used_portable(layer->kernel[0], layer->dilation[0], layer->stride[0],
                          row % layer->stride[0]))
        return;
    for (size_t phase = 0; phase < step; phase++) {
        if (!is_used_portable(layer->kernel[1], layer->dilation[1], step, phase))
            continue;
        uint8_t *to = plane + quad_portable(layer, row, phase);
        if (codes)
            columns_portable(layer, codes, phase, zero, to);
        else
            fill_portable(to, layer->pitch, zero);
    }
}

void qsdk_conv_int8_quads_portable(const layer_t *layer, uint8_t *const codes[4], size_t alive,
                                   size_t from, size_t to, int32_t zero, uint8_t *plane)
{
    for (size_t row = 0; from == 0 && row < layer->begin[0]; row++)
        row_portable(layer, NULL, row, zero, plane);
    for (size_t row = from; row < to; row++) {
        const uint8_t *rows[4]; /* channels that are not there have weights of 0 */
        for (size_t c = 0; c < 4; c++)
            rows[c] = codes[c < alive ? c : 0] + (row - from) * layer->width;
        row_portable(layer, rows, layer->begin[0] + row, zero, plane);
    }
    for (size_t row = 0; to == layer->height && row < layer->end[0]; row++)
        row_portable(layer, NULL, layer->begin[0] + to + row, zero, plane);
}

/* memcpy of what is often a few bytes. */
static inline void copy_portable(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n >= 16) {
        for (size_t i = 0; i + 16 < n; i += 16)
            memcpy(to + i, from + i, 16);
        memcpy(to + n - 16, from + n - 16, 16);
    } else if (n >= 8) {
        memcpy(to, from, 8);
        memcpy(to + n - 8, from + n - 8, 8);
    } else if (n >= 4) {
        memcpy(to, from, 4);
        memcpy(to + n - 4, from + n - 4, 4);
    } else {
        for (size_t i = 0; i < n; i++)
            to[i] = from[i];
    }
}

void qsdk_conv_int8_bytes_portable(const layer_t *layer, const uint8_t *codes, size_t from,
                                   size_t to, int32_t zero, uint8_t *plane)
{
    const size_t width = layer->pitch / layer->stride[0] * layer->stride[1];
    const size_t first = from ? layer->begin[0] + from : 0;
    const size_t last = layer->begin[0] + to + (to == layer->height ? layer->end[0] : 0);
    if (width != layer->width || layer->begin[0] + layer->end[0])
        memset(plane + first * width, zero & 0xff, (last - first) * width);
    plane += (layer->begin[0] + from) * width + layer->begin[1];
    for (size_t row = from; row < to; row++, plane += width, codes += layer->width)
        copy_portable(plane, codes, layer->width);
}
