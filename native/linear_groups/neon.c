/* ARMv8.0. One iteration is a quarter of a unit: 16 bytes of codes, shifted and masked, and for
 * each row of the tile two widening products, a pairwise addition and one that widens. Two products
 * in int16 are at most 2 * 128 * 127 = 32512 in magnitude, so nothing overflows. Not timed: the
 * emulator says nothing about time. */
#include "linear_groups.h"

#if defined(__aarch64__)
#include "linear_groups_neon.h"

typedef const struct qsdk_linear_groups layer_t;
typedef const struct qsdk_linear_groups_tile tile_t;

uint32_t qsdk_linear_groups_largest_neon(const float *x, size_t n)
{
    uint32x4_t largest = vdupq_n_u32(0);
    for (size_t i = 0; i < n; i += 4) {
        uint32_t four[4] = {0};
        memcpy(four, x + i, (n - i < 4 ? n - i : 4) * sizeof *x);
        const uint32x4_t bits = vandq_u32(vld1q_u32(four), vdupq_n_u32(0x7fffffffu));
        largest = vmaxq_u32(largest, bits);
    }
    return vmaxvq_u32(largest);
}

int32_t qsdk_linear_groups_code_neon(const float *x, size_t n, float scale, int8_t *codes)
{
    const float32x4_t divisor = vdupq_n_f32(scale);
    int32x4_t sum = vdupq_n_s32(0);
    for (size_t i = 0; i < n; i += 4) {
        const size_t count = n - i < 4 ? n - i : 4;
        float four[4] = {0};
        memcpy(four, x + i, count * sizeof *x);
        const int32x4_t steps = vcvtnq_s32_f32(vdivq_f32(vld1q_f32(four), divisor));
        const int16x4_t words = vqmovn_s32(steps);
        const int8x8_t bytes = vqmovn_s16(vcombine_s16(words, words));
        int8_t held[8];
        vst1_s8(held, bytes);
        memcpy(codes + i, held, count);
        sum = vaddw_s16(sum, vget_low_s16(vmovl_s8(bytes)));
    }
    return vaddvq_s32(sum);
}

BODY_NEON int32x4_t dot_neon(int32x4_t acc, int8x16_t weight, int8x16_t x)
{
    const int16x8_t low = vmull_s8(vget_low_s8(weight), vget_low_s8(x));
    const int16x8_t high = vmull_high_s8(weight, x);
    return vpadalq_s16(acc, vpaddq_s16(low, high));
}

static void codes_neon(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    switch (tile->rows) {
    case 1:
        codes_of_neon(layer, block, tile, 1, y, dot_neon);
        break;
    case 2:
        codes_of_neon(layer, block, tile, 2, y, dot_neon);
        break;
    case 4:
        codes_of_neon(layer, block, tile, 4, y, dot_neon);
        break;
    default:
        codes_of_neon(layer, block, tile, 8, y, dot_neon);
    }
}

/* One quarter of a group: sum[m] = sum of x * (u - zero) over its units. */
BODY_NEON void quarter_floats_neon(const uint8_t *codes, size_t units, int width, float32x4_t zero,
                                   const float *x, int rows, float32x4_t *sum)
{
    const uint32x4_t mask = vdupq_n_u32((1u << width) - 1);
    for (int m = 0; m < rows; m++)
        sum[m] = vdupq_n_f32(0);
    for (size_t u = 0; u < units; u++, codes += QSDK_UNIT) {
        const uint32x4_t unit = vreinterpretq_u32_u8(vld1q_u8(codes));
#pragma GCC unroll 4
        for (int bit = 0; bit < 8; bit += width)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++, x += rows) {
                const uint32x4_t shifted = vshlq_u32(unit, vdupq_n_s32(-(8 * j + bit)));
                const float32x4_t u_w = vcvtq_f32_u32(vandq_u32(shifted, mask));
                const float32x4_t w = vsubq_f32(u_w, zero);
#pragma GCC unroll 8
                for (int m = 0; m < rows; m++)
                    sum[m] = vfmaq_f32(sum[m], w, vdupq_n_f32(x[m]));
            }
    }
}

BODY_NEON void floats_of_neon(layer_t *layer, size_t block, tile_t *tile, int rows, float *y)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const size_t unit = qsdk_linear_groups_unit_portable(layer->width);
    const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
    const float *x = tile->x;
    float32x4_t total[4 * QSDK_ROWS_NEON];
    for (int i = 0; i < 4 * rows; i++)
        total[i] = vdupq_n_f32(0);
    for (size_t g = 0; g < layer->groups; g++) {
        const size_t units = g + 1 < layer->groups ? in.whole : in.last;
        const size_t at = (block * layer->groups + g) * QSDK_COLUMNS;
        for (int quarter = 0; quarter < 4; quarter++) {
            const size_t column = 4 * (size_t)quarter;
            const uint8_t *here = codes + 16 * (size_t)quarter;
            const float32x4_t zero = layer->zeros
                                         ? vcvtq_f32_s32(zeros_neon(layer->zeros + at + column))
                                         : vdupq_n_f32((float)layer->zero);
            const float32x4_t scale = vld1q_f32(layer->scale + at + column);
            float32x4_t sum[QSDK_ROWS_NEON];
            if (layer->width == 4)
                quarter_floats_neon(here, units, 4, zero, x, rows, sum);
            else if (layer->width == 2)
                quarter_floats_neon(here, units, 2, zero, x, rows, sum);
            else
                quarter_floats_neon(here, units, 8, zero, x, rows, sum);
            for (int m = 0; m < rows; m++)
                total[quarter * rows + m] = vfmaq_f32(total[quarter * rows + m], sum[m], scale);
        }
        codes += units * QSDK_UNIT;
        x += units * unit * (size_t)rows;
    }
    finish_neon(layer, block, total, rows, y);
}

void qsdk_linear_groups_floats_neon(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    switch (tile->rows) {
    case 1:
        floats_of_neon(layer, block, tile, 1, y);
        break;
    case 2:
        floats_of_neon(layer, block, tile, 2, y);
        break;
    case 4:
        floats_of_neon(layer, block, tile, 4, y);
        break;
    default:
        floats_of_neon(layer, block, tile, 8, y);
    }
}

const struct qsdk_linear_groups_set qsdk_linear_groups_neon = {
    .name = "neon",
    .rows = QSDK_ROWS_NEON,
    .largest = qsdk_linear_groups_largest_neon,
    .code = qsdk_linear_groups_code_neon,
    .codes = codes_neon,
    .floats = qsdk_linear_groups_floats_neon,
};
#endif
