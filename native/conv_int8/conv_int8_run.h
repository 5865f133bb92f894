/* What fit.c, planes.c, run.c and tiles.c agree upon: what lies where, and what a job is. */
#ifndef QSDK_CONV_INT8_RUN_H
#define QSDK_CONV_INT8_RUN_H

#include "conv_int8_set.h"

/* Scale, and zero_point as the set stores codes. */
struct qsdk_conv_int8_image {
    float scale;
    int32_t zero;
};

struct qsdk_conv_int8_call {
    const struct qsdk_conv_int8 *layer;
    const uint8_t *x;
    size_t images;
    uint8_t *y;
    struct qsdk_conv_int8_image *info; /* [images] */
    uint8_t *workers;
};

struct qsdk_conv_int8_worker {
    int32_t *start; /* [blocks * block] */
    float *factor;  /* [blocks * block] */
    uint8_t *codes; /* four times layer->codes bytes */
    uint8_t *planes;
};

/* Groups of one image that are worked on at once. */
struct qsdk_conv_int8_job {
    size_t image, group, groups;
    const struct qsdk_conv_int8_image *info;
};

/* Results of part `part` of `parts` of a job, from the planes of `shared`: by tiles, and by row. */
void qsdk_conv_int8_tiles_portable(const struct qsdk_conv_int8_call *call,
                                   const struct qsdk_conv_int8_worker *shared,
                                   const struct qsdk_conv_int8_job *job, size_t part, size_t parts);
void qsdk_conv_int8_by_row_portable(const struct qsdk_conv_int8_call *call,
                                    const struct qsdk_conv_int8_worker *shared,
                                    const struct qsdk_conv_int8_job *job, size_t part,
                                    size_t parts);

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

static inline size_t least_portable(size_t a, size_t b)
{
    return a < b ? a : b;
}

#endif
