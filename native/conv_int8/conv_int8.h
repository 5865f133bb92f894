/* 2-D convolution in 8-bit codes, what every file of this folder computes, stated once. 1-D is a
 * height of 1.
 *
 * u  the code of an input, of one image: [channels][height][width]; padded places hold zero_x
 * w  codes minus zero_point of a weight, -255..255: [outputs][channels / groups][kernel]
 * acc[n][r][c] = sum over channels of the group of n and over the kernel (i, j) of
 *                (u[.][r * stride + i * dilation - pad][c * stride + ...] - zero_x) * w[n][.][i][j]
 * in int32, modulo 2^32 on the way; whoever packs a layer has proved that the result fits.
 *
 * Results of accumulators, and codes of inputs, are those of linear_int8.h, where an image stands
 * for a row and an output channel for an output: one scale per image where it is found here.
 *
 * How: four bytes, a quad, are multiplied by four weights at once. The codes of a group become
 * planes of quads, four channels of one place each. With a stride a plane falls into
 * stride[0] * stride[1] phases, so that neighbours in a result are neighbours in a plane. Where a
 * group has one channel, its plane is of bytes, and a quad is four of them that the kernel spans.
 * Either way, position p = r * pitch + c of any result needs the quad at unit * p + offsets[k] in
 * step k, whatever the kernel: the convolution is a matrix product whose rows are read where they
 * lie. Vectors of positions start within the result's width; where they reach past the end of a
 * row, what is computed there is dropped. Where that is much, in small images, a set may have lanes
 * be outputs instead, and go by places of the result.
 *
 * Groups of one channel, as depthwise layers have them, go by row where a set can: their planes have
 * codes of 16 bits, and weights are pairs of neighbours of a row; conv_int8_rows.h says how. Then
 * neither quads nor positions are needed.
 *
 * Sets differ in nothing but speed: each equals `portable` to the bit. */
#ifndef QSDK_CONV_INT8_H
#define QSDK_CONV_INT8_H

#include "kernel.h"

/* [cffi] */
struct qsdk_conv_int8_set;

/* Positions in a row of a vector, and the first result of those within the result's width. Where
 * lanes are outputs: 8 results in a row, their first position, and a bit for each that there is. */
struct qsdk_conv_int8_vector {
    uint32_t position, place, within; /* within: a bit per position */
};

/* A packed layer for images of one size. Arrays have one entry per output, where a group has
 * `blocks` * `block` outputs, more than it needs. */
struct qsdk_conv_int8 {
    /* Given. channels and outputs are those of one group. */
    const struct qsdk_conv_int8_set *set;
    size_t groups, channels, outputs, height, width;
    size_t kernel[2], stride[2], dilation[2], begin[2], end[2];
    size_t block, blocks;  /* outputs of a block of packed weights, at most those of the set */
    size_t repeats;        /* bytes that add up to a weight: all first ones, all second ones... */
    size_t workers;        /* threads of a call, at most; each has scratch of its own */
    const void *weights;   /* [groups][blocks][steps][block][4]; by row, 16-bit, [groups][blocks]
                              [block][kernel[0]][pairs][2] */
    const int32_t *sums;   /* of the weights of an output */
    const float *scale, *bias;
    const int64_t *addend; /* requantization; with bias and rounding in it */
    const int32_t *mantissa, *right;
    size_t *offsets;       /* [steps], filled by qsdk_conv_int8_place, as is at */
    struct qsdk_conv_int8_vector *at; /* [vectors] */
    int32_t input, output; /* enum qsdk_linear_int8_input, qsdk_linear_int8_output */
    int32_t input_signed, input_zero, output_zero;
    int32_t output_low, output_high; /* codes */
    float input_scale, low, high;
    /* Found by qsdk_conv_int8_fit. */
    size_t out_height, out_width;
    size_t spans;               /* places in a row that a quad takes; 0: it takes channels */
    size_t unit;                /* bytes from position to position */
    size_t pairs, across;       /* of weights in a row of the kernel, 0: not by row; and codes from
                                   one pair to the next */
    size_t rows, pitch;         /* positions, of a phase of a plane; by row, codes */
    size_t planes, plane_bytes;
    size_t quads;               /* of a row of the kernel */
    size_t steps, vectors;
    size_t chunk;               /* rows of an image that are coded at once */
    size_t together, jobs;      /* groups of a job, at most; jobs of an image */
    size_t by_output;           /* lanes are outputs of 8 places each, not positions */
    size_t start, factor, codes, worker; /* bytes of the parts of a worker's scratch, and of all */
};

/* The set of that name; NULL where this build has none. */
const struct qsdk_conv_int8_set *qsdk_conv_int8_find(const char *set);

/* The most outputs that a block of the set may have, and whether its weights are 16-bit: the first
 * and third of four, then the second and fourth. Else they are bytes. */
size_t qsdk_conv_int8_block(const struct qsdk_conv_int8_set *set);
int qsdk_conv_int8_is_wide(const struct qsdk_conv_int8_set *set);

/* Pairs that a layer's weights are packed in for each row of the kernel: neighbours, or one weight
 * and 0 where they are dilated; the last may be short of one. 0 where quads are packed instead. */
size_t qsdk_conv_int8_pairs(const struct qsdk_conv_int8 *layer);

/* Finds what follows from the size of the images. The result must have at least one place. Returns
 * 1 when images are too large, more than 2^32 bytes in a channel; else 0. vectors is then as many as
 * may be needed. */
int qsdk_conv_int8_fit(struct qsdk_conv_int8 *layer);

/* Fills offsets and at, and sets vectors to as many as there are. */
void qsdk_conv_int8_place(struct qsdk_conv_int8 *layer);

/* Scratch for a call on so many images. */
size_t qsdk_conv_int8_scratch(const struct qsdk_conv_int8 *layer, size_t images);

/* A qsdk_run. */
void qsdk_conv_int8_run(const void *layer, const void *x, size_t images, void *y, void *scratch,
                        int threads);
/* [/cffi] */

#endif
