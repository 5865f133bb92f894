/* conv on weights and images that are sums of scaled planes of signs. 1-D is a height of 1.
 *
 *   y[n][place] = sum over planes i of the weight, in order, of  alpha[i][n] * t
 *   t = scale[0] * dot[0] + scale[1] * dot[1] + ...    over the planes of the image, left to right
 * and then + bias[n] and the clip, all in float32, each product and sum rounded, none fused.
 *   dot[j] = places - 2 * misses         an integer, exact in float32: it is below 2^24
 * places are those of the kernel and the channels of the group that lie in the image, misses those
 * of them where the weight's sign is not the image's. Padding is real 0: no place, no miss.
 *
 * An image is coded as one row of linear, as sign_codes has it; scale[j] is its beta[j], the same
 * everywhere. With a scale map (one plane), it is of each place of the result by itself:
 *   scale[0] = (sum over the kernel, row by row, of m) / places of the kernel
 *   m = (sum over the channels of the group, in order, of |x|) / channels, and 0 where padded
 *
 * How: codes of an image lie with channels last, so that what a row of the kernel sees lies in a row
 * (where it is not dilated) and nothing is copied for it. Lanes are outputs. All results whose windows
 * are cut alike by the border are worked on together, a tile at a time: what is seen of the kernel
 * is a rectangle of places, and only these are counted. */
#ifndef QSDK_CONV_BINARY_H
#define QSDK_CONV_BINARY_H

#include "kernel.h"

/* [cffi] */
struct qsdk_conv_binary_set;

/* A packed layer for images of one size.
 *
 * channels, outputs  of one group
 * begin              padding above, and to the left
 * planes             of the weight, 1 to 4
 * bits, cycles       of the images; bits 1 to 4
 * scale_map          whether each place of the result has its scale; only with 1 bit
 * weights            [group][block][plane][place of the kernel][lane][row of the block], a lane being
 *                    some bytes of the bits of a place's channels: 1 for +1, 0 for -1 and behind the
 *                    last channel or row
 * alpha              [group][block][plane][row of the block], 0 behind the last row
 * bias               [groups * outputs], or NULL
 * low, high          the clip; -inf and inf for none */
typedef struct {
    const struct qsdk_conv_binary_set *set;
    size_t groups, channels, outputs, height, width, out_height, out_width;
    size_t kernel[2], stride[2], dilation[2], begin[2];
    int32_t planes, bits, cycles, scale_map;
    const uint8_t *weights;
    const float *alpha, *bias;
    float low, high;
} qsdk_conv_binary;

/* The instruction set of this name; NULL where this build has none. */
const struct qsdk_conv_binary_set *qsdk_conv_binary_find(const char *set);

/* Outputs of a block of this set's layout, and bytes of a lane. */
size_t qsdk_conv_binary_block_rows(const struct qsdk_conv_binary_set *set);
size_t qsdk_conv_binary_lane_bytes(const struct qsdk_conv_binary_set *set);

/* Bytes of scratch of a call on so many images. */
size_t qsdk_conv_binary_scratch(const qsdk_conv_binary *layer, size_t images);

/* x: float, [images][channels of all groups][height][width]; y: float. A qsdk_run. */
void qsdk_conv_binary_run(const void *layer, const void *x, size_t images, void *y, void *scratch,
                          int threads);
/* [/cffi] */

#include "sign_codes.h"

/* Columns of a tile: (position, plane of the image) pairs. A block has at most so many rows. */
enum { QSDK_CONV_BINARY_COLUMNS = 4, QSDK_CONV_BINARY_ROWS = 64 };

/* Some neighbours in a row of the result that see the same places of the kernel, times a block of
 * outputs.
 *
 * weights, alpha  of the block's first plane; weights from the first place of the kernel seen on
 * x, apart        codes of the first place of the image seen; bytes to those of the next position
 * down, across    rows and columns of the kernel that are seen
 * places          that many times the channels
 * scale           [position][plane of the image] */
struct qsdk_conv_binary_tile {
    const qsdk_conv_binary *layer;
    const uint8_t *weights, *x;
    const float *alpha;
    size_t apart, down, across;
    int32_t places;
    int positions;
    float scale[QSDK_CONV_BINARY_COLUMNS];
};

/* What a set brings along: what a tile's results are, without bias and clip: y[position][row of the
 * block]. Lanes of weights have 8 bytes, and so have those of codes; or 1 byte, and those of codes 2:
 * its lower four bits, then its upper, each times 16. */
struct qsdk_conv_binary_set {
    const char *name;
    const struct qsdk_sign_codes *coding;
    size_t lane_bytes, code_bytes, block_rows;
    void (*tile)(const struct qsdk_conv_binary_tile *tile, float *y);
};

extern const struct qsdk_conv_binary_set qsdk_conv_binary_portable, qsdk_conv_binary_avx2,
    qsdk_conv_binary_avx512vpopcntdq, qsdk_conv_binary_neon;

/* Lanes of the channels of a place, bytes of these in the codes of an image, and in a block of
 * weights: of one place of the kernel, and of all. */
static inline size_t qsdk_conv_binary_lanes_portable(const qsdk_conv_binary *layer)
{
    const size_t lane = 8 * layer->set->lane_bytes;
    return (layer->channels + lane - 1) / lane;
}

static inline size_t qsdk_conv_binary_place_bytes_portable(const qsdk_conv_binary *layer)
{
    return qsdk_conv_binary_lanes_portable(layer) * layer->set->code_bytes * (size_t)layer->bits;
}

static inline size_t qsdk_conv_binary_tap_bytes_portable(const qsdk_conv_binary *layer)
{
    return qsdk_conv_binary_lanes_portable(layer) * layer->set->lane_bytes * layer->set->block_rows;
}

static inline size_t qsdk_conv_binary_plane_bytes_portable(const qsdk_conv_binary *layer)
{
    return layer->kernel[0] * layer->kernel[1] * qsdk_conv_binary_tap_bytes_portable(layer);
}

/* One image's codes, [group][place][lane][bits], and its map, [group][place of the result]; codes.c.
 * words and mean are scratch. Returns 0 where the image is not finite. */
size_t qsdk_conv_binary_words_portable(const qsdk_conv_binary *layer);
int qsdk_conv_binary_code_portable(const qsdk_conv_binary *layer, const float *x, float *beta,
                                   uint64_t *words, uint8_t *codes, float *mean, float *map);

/* Which places of the kernel, first .. last, lie in the image where the result is `place`. */
static inline void qsdk_conv_binary_seen_portable(const qsdk_conv_binary *layer, int axis,
                                                  size_t place, size_t *first, size_t *last)
{
    const size_t length = axis ? layer->width : layer->height, apart = layer->dilation[axis];
    const size_t begin = layer->begin[axis], at = place * layer->stride[axis];
    const size_t before = begin > at ? begin - at : 0;
    const size_t until = begin + length > at ? begin + length - at : 0;
    const size_t kernel = layer->kernel[axis], end = (until + apart - 1) / apart;
    *last = end < kernel ? end : kernel;
    *first = (before + apart - 1) / apart;
    *first = *first < *last ? *first : *last;
}

#endif
