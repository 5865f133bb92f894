/* The C of qsdk: what every file under native/ computes, stated once.
 *
 * Arithmetic, the same in every file: float32, in the default rounding mode.
 *   u     = x / scale                      one IEEE division, never a reciprocal
 *   steps = rne(clamp(u, qmin - zero_point, qmax - zero_point))
 *   code  = steps + zero_point             stored as its low byte
 *   error = steps - u                      held within +-2^10
 * rne rounds to the nearest integer, halves to the even one. The limits are integers, so rounding
 * first and clamping then gives the same code; clamped first, every float fits an integer.
 *
 * A row is contiguous and has its own scale and zero_point. The caller has seen to it that x is
 * finite, scale > 0, qmin <= zero_point <= qmax, and the grid fits one byte, signed or unsigned.
 * NaN, infinity and a wrong scale give meaningless codes, but no bad access. Any size may be 0;
 * buffers never overlap. Nothing here allocates, keeps state or calls libm.
 */
#ifndef QSDK_NATIVE_H
#define QSDK_NATIVE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* [cffi] */
/* The low `bits` (1 to 8) of each code become a little-endian bit stream: code i is bits
 * [i * bits, (i + 1) * bits), bit 0 being the lowest of packed[0]. So 4 bits put the first code
 * into the low nibble, as ONNX INT4 does, and 2 bits are ONNX INT2. packed holds
 * ceil(n * bits / 8) bytes; the bits that the last one has left over are 0. Returns the largest
 * low byte of code - qmin: codes lie on a grid qmin..qmax if that is no more than qmax - qmin. */
uint8_t qsdk_pack_portable(const uint8_t *codes, size_t n, int bits, uint8_t qmin,
                           uint8_t *packed);

/* The inverse; is_signed extends the sign of two's complement codes. Returns 0, or 1 with codes
 * untouched when bits is not 1 to 8 or packed_bytes is too small. Reads no byte it does not need. */
int qsdk_unpack_portable(const uint8_t *packed, size_t packed_bytes, size_t n, int bits,
                         int is_signed, uint8_t *codes);

/* low[rows] and high[rows]: the least and the greatest value of each row, never -0; infinity and
 * minus infinity if length is 0. Returns 1 if all values are finite, else 0, and then the ends of a
 * row with NaN in it are not said. */
int qsdk_range_rows_portable(const float *x, size_t rows, size_t length, float *low, float *high);

/* scale[rows] and zero_point[rows] of the grids that cover low[rows] to high[rows], finite, and 0:
 * what scale_and_zero_point in qsdk/affine.py states. */
void qsdk_grid_rows_portable(const float *low, const float *high, size_t rows, int32_t qmin,
                             int32_t qmax, int symmetric, float *scale, int32_t *zero_point);

/* codes[rows * length]: round to nearest. */
void qsdk_quantize_rows_portable(const float *x, size_t rows, size_t length, const float *scale,
                                 const int32_t *zero_point, int32_t qmin, int32_t qmax,
                                 uint8_t *codes);

/* x[rows * length] = (float)(code - zero_point) * scale, one product; is_signed: codes are int8. */
void qsdk_dequantize_rows_portable(const uint8_t *codes, size_t rows, size_t length,
                                   const float *scale, const int32_t *zero_point, int is_signed,
                                   float *x);

/* codes[rows * length] = clamp(zero_point + round(acc * mantissa[row] * 2^(shift[row] - 31)), qmin,
 * qmax): integers alone, one rounding, halves upward, as requantize in qsdk/fixed_point.py has it.
 * mantissa >= 0, shift <= 30. A shift below -31 leaves less than half a step, so zero_point. */
void qsdk_requantize_rows_portable(const int32_t *acc, size_t rows, size_t length,
                                   const int32_t *mantissa, const int32_t *shift,
                                   int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t *codes);

/* error[rows]: the sum of rne(error * 2^10)^2 over a row. Integers, so that whoever looks for the
 * range of least error finds the same one on every CPU. Sums below 2^63 are exact, and rows of
 * fewer than 2^23 values have no other. */
void qsdk_squared_error_rows_portable(const float *x, size_t rows, size_t length,
                                      const float *scale, const int32_t *zero_point, int32_t qmin,
                                      int32_t qmax, int64_t *error);

/* codes[rows * kernels * kernel_size]: SQuant (arXiv:2202.07471), which rounds so that the errors
 * of every kernel, and those of every row, nearly cancel. error is scratch for the
 * kernels * kernel_size values of one row, fewer than 2^31.
 *
 * Decisions are taken on integers: e = rne(error * 2^20), ONE = 2^20. To raise a code is to add
 * ONE to its e. A code may be raised if e < 0 and code < qmax, lowered if e > 0 and code > qmin.
 *
 * Flip step, on candidates and a sum s: raise codes if s < 0, lower them if s > 0. Of the
 * candidates that may move so, ordered by |e| descending and equal |e| by position, move the first
 * rne(|s| / ONE), or all if there are fewer.
 *
 * Stage K (stage_k, kernel_size > 1): a flip step on each kernel, s being the sum of its e. It
 * moves m codes and leaves at most one candidate for stage C:
 *   s == 0           none
 *   m * ONE >= |s|   the last code moved, which may move back
 *   m * ONE <  |s|   the next in the order, if there is one
 * Stage C (stage_c): a flip step on the row, s being the sum of its e as they now are, on these
 * candidates, or on all codes if stage K did not run. */
void qsdk_squant_portable(const float *x, size_t rows, size_t kernels, size_t kernel_size,
                          const float *scale, const int32_t *zero_point, int32_t qmin,
                          int32_t qmax, int stage_k, int stage_c, int32_t *error, uint8_t *codes);
/* [/cffi] */

#define QSDK_INFINITY ((float)INFINITY)

/* How far outside the grid, in steps, a value counts. */
#define QSDK_REACH 0x1p10f

/* NaN becomes low, so that every result converts to an integer. */
static inline float qsdk_clamp_portable(float value, float low, float high)
{
    value = value > low ? value : low;
    return value < high ? value : high;
}

/* rne for |value| <= 2^22: beside 1.5 * 2^23 a float has no bits for a fraction, so the addition
 * rounds. Baseline x86-64 has no rounding instruction; rintf is a call and stops vectorization. */
static inline float qsdk_round_portable(float value)
{
    const float shift = 0x1.8p23f;
    const float shifted = value + shift;
    return shifted - shift;
}

#endif
