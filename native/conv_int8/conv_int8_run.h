/* What fit.c and run.c agree upon: what lies where. */
#ifndef QSDK_CONV_INT8_RUN_H
#define QSDK_CONV_INT8_RUN_H

#include "conv_int8_set.h"

/* Scale, and zero_point as the set stores codes. */
struct qsdk_conv_int8_image {
    float scale;
    int32_t zero;
};

/* Where in a plane of quads a place of the padded image is. */
static inline size_t quad_portable(const struct qsdk_conv_int8 *layer, size_t row, size_t column)
{
    const size_t *stride = layer->stride;
    const size_t phase = row % stride[0] * stride[1] + column % stride[1];
    return 4 * ((phase * layer->rows + row / stride[0]) * layer->pitch + column / stride[1]);
}

#endif
