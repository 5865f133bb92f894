/* What an instruction set brings: the table that run.c calls. */
#ifndef QSDK_CONV_INT8_SET_H
#define QSDK_CONV_INT8_SET_H

#include "conv_int8.h"
#include "linear_int8_set.h"

enum {
    QSDK_CONV_INT8_BLOCK = 8,      /* outputs of a block, at most */
    QSDK_CONV_INT8_POSITIONS = 48, /* positions of a tile, at most */
    QSDK_CONV_INT8_PLACES = 8,     /* results of a vector by output */
    QSDK_CONV_INT8_WIDE = 3,       /* blocks of a tile by output, at most */
};

/* Some vectors of positions, of a block of outputs. */
struct qsdk_conv_int8_tile {
    const uint8_t *x; /* the planes */
    const struct qsdk_conv_int8_vector *at;
    size_t vectors;
    const void *weights;
    const int32_t *start; /* what accumulators begin with, per output */
    size_t block, outputs;
    void *y;      /* the first result of the first output */
    size_t apart; /* results from output to output */
    const struct qsdk_conv_int8 *layer;
    const float *factor, *bias; /* per output, as are the others */
    const int64_t *addend;
    const int32_t *mantissa, *right;
};

/* Some rows of the results of one output, whose group has one channel. */
struct qsdk_conv_int8_rows {
    const struct qsdk_conv_int8 *layer;
    const int16_t *x;       /* of the plane, where the first weight of the first result falls */
    const int16_t *weights; /* [kernel[0]][pairs][2] */
    size_t below; /* codes from one row of weights to the next */
    size_t rows;
    void *y;     /* the first result */
    size_t room; /* results from y on: of these rows, and of others that are found after them */
    int32_t start;
    float factor, bias;
    int64_t addend;
    int32_t mantissa, right;
};

struct qsdk_conv_int8_set {
    const char *name;
    const struct qsdk_linear_int8_set *coding; /* whose size, range and code serve here too */
    int is_signed; /* codes are stored as int8, else as uint8 */
    int is_wide;   /* weights have 16 bits */
    int lanes;     /* positions of a vector */
    int vectors;   /* of a tile, at most */
    int block;     /* outputs of a block, at most; 1, 2 or 4 are possible too */
    int macs;      /* multiplications per nanosecond, about: how much work wants threads */

    /* to[i] = the quad of rows[.][i * step], i < n. */
    void (*quads)(const uint8_t *const rows[4], size_t step, size_t n, uint8_t *to);
    /* The results of a tile; reads quads of all positions of its vectors, and up to 63 bytes more. */
    void (*tile)(const struct qsdk_conv_int8_tile *tile);
    /* The same of one vector by output and `blocks` blocks of 8 outputs, 1 to 3; NULL: no need. */
    void (*places)(const struct qsdk_conv_int8_tile *tile, size_t blocks);
    /* Codes of rows [from, to) of a group's one channel become rows of a plane of 16-bit codes, with
     * the padding above the first and below the last; reads up to 16 codes more, and writes up to 31.
     * NULL, as is rows: no need. */
    void (*spread)(const struct qsdk_conv_int8 *layer, const uint8_t *codes, size_t from, size_t to,
                   int32_t zero, int16_t *plane);
    /* Results by row, for a stride[1] of 1 or 2; reads up to 2 * lanes * stride[1] + 4 codes past
     * those that count. */
    void (*rows)(const struct qsdk_conv_int8_rows *rows);
};

#define QSDK_CONV_INT8_BY_ROW(set) \
    void qsdk_conv_int8_spread_##set(const struct qsdk_conv_int8 *layer, const uint8_t *codes, \
                                     size_t from, size_t to, int32_t zero, int16_t *plane); \
    void qsdk_conv_int8_rows_##set(const struct qsdk_conv_int8_rows *rows)

extern const struct qsdk_conv_int8_set qsdk_conv_int8_portable;
#if defined(__x86_64__) && defined(__GNUC__)
extern const struct qsdk_conv_int8_set qsdk_conv_int8_avx2;
extern const struct qsdk_conv_int8_set qsdk_conv_int8_avx2_pairs;
QSDK_CONV_INT8_BY_ROW(avx2);
extern const struct qsdk_conv_int8_set qsdk_conv_int8_avx512vnni;
void qsdk_conv_int8_places_avx512vnni(const struct qsdk_conv_int8_tile *tile, size_t blocks);
QSDK_CONV_INT8_BY_ROW(avx512vnni);
#if __GNUC__ >= 11 || defined(__clang__)
extern const struct qsdk_conv_int8_set qsdk_conv_int8_avxvnni;
QSDK_CONV_INT8_BY_ROW(avxvnni);
#endif
#elif defined(__aarch64__) && defined(__GNUC__)
extern const struct qsdk_conv_int8_set qsdk_conv_int8_neon;
QSDK_CONV_INT8_BY_ROW(neon);
#if !defined(__clang__) || __clang_major__ >= 16
extern const struct qsdk_conv_int8_set qsdk_conv_int8_dotprod;
#endif
#endif

#endif
