/* What the ARM sets share: all but how four codes of the input meet 16 bytes of the weight.
 *
 * A q register has 4 of the 16 columns, four k each, so a unit comes in quarters. Weights are below
 * 128, so that they are s8 like the input: the kernels refuse 8 bits. */
#ifndef QSDK_LINEAR_GROUPS_NEON_H
#define QSDK_LINEAR_GROUPS_NEON_H

#if defined(__aarch64__)
#include "linear_groups.h"

#include <arm_neon.h>
#include <string.h>

#define BODY_NEON static inline __attribute__((always_inline))

enum { QSDK_ROWS_NEON = 8 };

uint32_t qsdk_linear_groups_largest_neon(const float *x, size_t n);
int32_t qsdk_linear_groups_code_neon(const float *x, size_t n, float scale, int8_t *codes);
qsdk_linear_groups_product qsdk_linear_groups_floats_neon;

/* acc[column] += the sum of four products. */
typedef int32x4_t qsdk_linear_groups_dot_neon(int32x4_t acc, int8x16_t weight, int8x16_t x);

BODY_NEON int8x16_t four_neon(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

/* The zeros of 4 columns. */
BODY_NEON int32x4_t zeros_neon(const uint8_t *zeros)
{
    uint32_t bits;
    memcpy(&bits, zeros, sizeof bits);
    const uint16x8_t words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(bits)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(words)));
}

/* Bias, limits and the columns that the layer has; total[quarter * rows + m]. */
BODY_NEON void finish_neon(const struct qsdk_linear_groups *layer, size_t block,
                           const float32x4_t *total, int rows, float *y)
{
    const size_t columns = qsdk_linear_groups_columns_portable(layer, block);
    const float *bias = layer->bias + block * QSDK_COLUMNS;
    const float32x4_t low = vdupq_n_f32(layer->low), high = vdupq_n_f32(layer->high);
    for (int m = 0; m < rows; m++) {
        float whole[QSDK_COLUMNS];
        for (int quarter = 0; quarter < 4; quarter++) {
            float32x4_t value = vaddq_f32(total[quarter * rows + m], vld1q_f32(bias + 4 * quarter));
            value = vbslq_f32(vcltq_f32(value, low), low, value); /* NaN stays */
            value = vbslq_f32(vcgtq_f32(value, high), high, value);
            vst1q_f32(whole + 4 * quarter, value);
        }
        memcpy(y + (size_t)m * layer->columns, whole, columns * sizeof *y);
    }
}

/* One quarter of a group: acc[m] += the sum of codes over its units. */
BODY_NEON void quarter_neon(const uint8_t *codes, size_t units, int width, const int8_t *x,
                            int rows, int32x4_t *acc, qsdk_linear_groups_dot_neon *dot)
{
    const uint8x16_t mask = vdupq_n_u8((uint8_t)((1 << width) - 1));
    for (size_t u = 0; u < units; u++, codes += QSDK_UNIT) {
        const uint8x16_t unit = vld1q_u8(codes);
#pragma GCC unroll 4
        for (int bit = 0; bit < 8; bit += width, x += 4 * rows) {
            const uint8x16_t shifted = vshlq_u8(unit, vdupq_n_s8((int8_t)-bit));
            const int8x16_t field = vreinterpretq_s8_u8(vandq_u8(shifted, mask));
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++)
                acc[m] = dot(acc[m], field, four_neon(x + 4 * m));
        }
    }
}

/* What a group adds in one quarter: total += float32(acc) * (scale_x * scale), never fused. */
BODY_NEON void add_quarter_neon(const int32x4_t *acc, const float *scale_x, float32x4_t scale_w,
                                int rows, float32x4_t *total)
{
    for (int m = 0; m < rows; m++) {
        const float32x4_t step = vmulq_f32(vdupq_n_f32(scale_x[m]), scale_w);
        total[m] = vaddq_f32(total[m], vmulq_f32(vcvtq_f32_s32(acc[m]), step));
    }
}

/* A tile; rows and dot are constants, so that all of it becomes one function. */
BODY_NEON void codes_of_neon(const struct qsdk_linear_groups *layer, size_t block,
                             const struct qsdk_linear_groups_tile *tile, int rows, float *y,
                             qsdk_linear_groups_dot_neon *dot)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const size_t unit = qsdk_linear_groups_unit_portable(layer->width), r = (size_t)rows;
    const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
    const int8_t *x = tile->x;
    float32x4_t total[4 * QSDK_ROWS_NEON];
    for (int i = 0; i < 4 * rows; i++)
        total[i] = vdupq_n_f32(0);
    for (size_t g = 0; g < layer->groups; g++) {
        const size_t units = g + 1 < layer->groups ? in.whole : in.last;
        const size_t at = (block * layer->groups + g) * QSDK_COLUMNS;
        for (int quarter = 0; quarter < 4; quarter++) {
            const size_t column = 4 * (size_t)quarter;
            const uint8_t *here = codes + 16 * (size_t)quarter;
            const int32x4_t zero =
                layer->zeros ? zeros_neon(layer->zeros + at + column) : vdupq_n_s32(1);
            int32x4_t acc[QSDK_ROWS_NEON];
            for (int m = 0; m < rows; m++)
                acc[m] = vmulq_n_s32(zero, tile->start[g * r + (size_t)m]);
            if (layer->width == 4)
                quarter_neon(here, units, 4, x, rows, acc, dot);
            else if (layer->width == 2)
                quarter_neon(here, units, 2, x, rows, acc, dot);
            else
                quarter_neon(here, units, 8, x, rows, acc, dot);
            add_quarter_neon(acc, tile->scale + g * r, vld1q_f32(layer->scale + at + column), rows,
                             total + quarter * rows);
        }
        codes += units * QSDK_UNIT;
        x += units * unit * r;
    }
    finish_neon(layer, block, total, rows, y);
}

#endif
#endif
