/* y = x . w^T in 8-bit codes, what every file of this folder computes, stated once.
 *
 * u  the code of an input; w the code of a weight, -128..127, [outputs][inputs]
 * acc[m][n] = sum over k of (u[m][k] - zero_x[m]) * (w[n][k] - zero_w[n])
 *           = sum u w - zero_x[m] * sum w[n] - zero_w[n] * sum (u[m] - zero_x[m])
 * in int32, modulo 2^32 on the way; whoever packs a layer has proved that the result fits.
 *
 * result    float32: float(acc) * (scale_x * scale_w) + bias, each operation rounded, then clipped:
 *                    low > y ? low : y, then high < y ? high : y, so that NaN stays
 *           int32:   acc
 *           codes:   clip(zero_y + ((acc * mantissa + addend) >> right)), the product in 64 bits
 * input     rows of floats that get codes here: symmetric int8 or affine uint8, one scale per row,
 *           as qsdk.affine.scale_and_zero_point says; a row that is not finite gets scale NaN and
 *           the codes of zeros. Or floats with one fixed scale and zero_point. Or codes.
 * code      rne(clip(x / scale, qmin - zero, qmax - zero)) + zero, NaN the lowest
 *
 * Sets differ in nothing but speed: each equals `portable` to the bit. */
#ifndef QSDK_LINEAR_INT8_H
#define QSDK_LINEAR_INT8_H

#include "kernel.h"

#define QSDK_LINEAR_INT8_LANES 16 /* outputs of a block of packed weights */
#define QSDK_LINEAR_INT8_DEPTH 64 /* inputs of a tile of them */

/* [cffi] */
struct qsdk_linear_int8_set;

enum qsdk_linear_int8_input {
    QSDK_LINEAR_INT8_ROWS,  /* floats, a scale and a zero_point per row made here */
    QSDK_LINEAR_INT8_FIXED, /* floats, input_scale and input_zero */
    QSDK_LINEAR_INT8_CODES, /* codes of input_scale and input_zero */
};

enum qsdk_linear_int8_output {
    QSDK_LINEAR_INT8_FLOAT,
    QSDK_LINEAR_INT8_INT32,
    QSDK_LINEAR_INT8_REQUANTIZED,
};

/* A packed layer. Arrays have one entry per output, and as many more as fill a block of 16. */
struct qsdk_linear_int8 {
    const struct qsdk_linear_int8_set *set;
    size_t inputs, outputs;
    const uint8_t *weights; /* qsdk_linear_int8_packed_bytes of them */
    const int32_t *start;   /* what accumulators begin with */
    const int32_t *sums;    /* of the codes of an output */
    const int32_t *zeros;   /* zero_point of an output */
    const float *scale, *bias;
    const int64_t *addend; /* requantization; with bias and rounding in it */
    const int32_t *mantissa, *right;
    int32_t input, input_signed, input_zero, output, output_zero;
    int32_t output_low, output_high; /* codes */
    int32_t has_zeros;               /* some zero_point is not 0 */
    float input_scale, low, high;
};

/* The set of that name; NULL where this build has none. */
const struct qsdk_linear_int8_set *qsdk_linear_int8_find(const char *set);

/* Bytes of the packed weights: tiles of [16 k][16 n][4 k] in the order [n / 16][k / 64]. */
size_t qsdk_linear_int8_packed_bytes(size_t inputs, size_t outputs);

/* Packs codes [outputs][inputs] for a layer whose set, sizes, input form and zeros are filled in,
 * and finds its sums and start. */
void qsdk_linear_int8_pack(const struct qsdk_linear_int8 *layer, const int8_t *codes,
                           uint8_t *weights, int32_t *sums, int32_t *start);

/* 1 when the set is exact for these weights: some have room for two products in 16 bits. */
int qsdk_linear_int8_fits(const struct qsdk_linear_int8_set *set, const int8_t *codes,
                          size_t outputs, size_t inputs);

/* Scratch for a call on so many rows; bounded, however many they are. */
size_t qsdk_linear_int8_scratch(const struct qsdk_linear_int8 *layer, size_t rows);

/* A qsdk_run. */
void qsdk_linear_int8_run(const void *layer, const void *x, size_t rows, void *y, void *scratch,
                          int threads);
/* [/cffi] */

#endif
