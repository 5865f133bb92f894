/* What fit.c, planes.c and run.c agree upon: what lies where. */
#ifndef QSDK_CONV_INT8_RUN_H
#define QSDK_CONV_INT8_RUN_H

#include "conv_int8_set.h"

/* Scale, and zero_point as the set stores codes. */
struct qsdk_conv_int8_image {
    float scale;
    int32_t zero;
};

/* The quads of rows [from, to) of an image, with the padding above the first and below the last;
 * codes of as many channels as are alive. */
void qsdk_conv_int8_quads_portable(const struct qsdk_conv_int8 *layer, uint8_t *const codes[4],
                                   size_t alive, size_t from, size_t to, int32_t zero,
                                   uint8_t *plane);

/* The bytes of the same rows of a group's one channel. */
void qsdk_conv_int8_bytes_portable(const struct qsdk_conv_int8 *layer, const uint8_t *codes,
                                   size_t from, size_t to, int32_t zero, uint8_t *plane);

/* Where in a plane of quads a place of the padded image is. */
static inline size_t quad_portable(const struct qsdk_conv_int8 *layer, size_t row, size_t column)
{
    const size_t *stride = layer->stride;
    const size_t phase = row % stride[0] * stride[1] + column % stride[1];
    return 4 * ((phase * layer->rows + row / stride[0]) * layer->pitch + column / stride[1]);
}

#endif
