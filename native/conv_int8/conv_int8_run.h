/* What fit.c and run.c agree upon: where a worker keeps what. */
#ifndef QSDK_CONV_INT8_RUN_H
#define QSDK_CONV_INT8_RUN_H

#include "conv_int8_set.h"

/* Scale, and zero_point as the set stores codes. */
struct qsdk_conv_int8_image {
    float scale;
    int32_t zero;
};

/* Bytes; codes four times. */
struct qsdk_conv_int8_parts {
    size_t start, factor, codes, line, planes;
};

size_t qsdk_conv_int8_chunk_portable(const struct qsdk_conv_int8 *layer);
struct qsdk_conv_int8_parts qsdk_conv_int8_parts_portable(const struct qsdk_conv_int8 *layer);

/* Whether the four bytes of a quad are places beside each other, not channels. */
static inline int spans_portable(const struct qsdk_conv_int8 *layer)
{
    return layer->channels == 1 && layer->kernel[1] > 1;
}

/* Where in a plane a row of the padded image begins, in one phase of its columns. */
static inline size_t quad_portable(const struct qsdk_conv_int8 *layer, size_t row, size_t phase)
{
    const size_t plane = row % layer->stride[0] * layer->stride[1] + phase;
    return 4 * (plane * layer->rows + row / layer->stride[0]) * layer->pitch;
}

#endif
