/* 16 values at a time. Ranges take as long as the reading; rounding is limited by the division. What
 * is left of a row goes to the portable code. */
#include "arrays.h"

#ifdef QSDK_NEON_ARRAYS
#include <arm_neon.h>

struct grid {
    float32x4_t scale, low, high;
};

static inline struct grid grid_neon(float scale, int32_t zero_point, int32_t qmin, int32_t qmax)
{
    const struct grid grid = {vdupq_n_f32(scale), vdupq_n_f32((float)(qmin - zero_point)),
                              vdupq_n_f32((float)(qmax - zero_point))};
    return grid;
}

/* value > low ? value : low, which is low for NaN; then the same from above. */
static inline float32x4_t held_neon(float32x4_t value, float32x4_t low, float32x4_t high)
{
    const float32x4_t above = vbslq_f32(vcgtq_f32(value, low), value, low);
    return vbslq_f32(vcltq_f32(above, high), above, high);
}

/* The steps, of -255 to 255. */
static inline int32x4_t round_neon(const float *x, const struct grid *grid)
{
    const float32x4_t u = vdivq_f32(vld1q_f32(x), grid->scale);
    return vcvtnq_s32_f32(held_neon(u, grid->low, grid->high));
}

/* Quantizes all but the last n % 16; returns how many that is. */
static size_t quantize_row_neon(const float *x, size_t n, const struct grid *grid,
                                int32_t zero_point, uint8_t *codes)
{
    const uint8x16_t zero_points = vdupq_n_u8((uint8_t)zero_point);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        const int16x8_t a = vcombine_s16(vmovn_s32(round_neon(x + i, grid)),
                                         vmovn_s32(round_neon(x + i + 4, grid)));
        const int16x8_t b = vcombine_s16(vmovn_s32(round_neon(x + i + 8, grid)),
                                         vmovn_s32(round_neon(x + i + 12, grid)));
        const uint8x16_t bytes = vcombine_u8(vmovn_u16(vreinterpretq_u16_s16(a)),
                                             vmovn_u16(vreinterpretq_u16_s16(b)));
        vst1q_u8(codes + i, vaddq_u8(bytes, zero_points));
    }
    return i;
}

/* The sum over all but the last n % 4. */
static int64_t squared_error_row_neon(const float *x, size_t n, const struct grid *grid)
{
    const float32x4_t reach = vdupq_n_f32(QSDK_REACH);
    const float32x4_t lowest = vsubq_f32(grid->low, reach), highest = vaddq_f32(grid->high, reach);
    int64x2_t sum = vdupq_n_s64(0);
    for (size_t i = 0; i + 4 <= n; i += 4) {
        const float32x4_t u = vdivq_f32(vld1q_f32(x + i), grid->scale);
        const float32x4_t near = held_neon(u, lowest, highest);
        const float32x4_t steps = vrndnq_f32(held_neon(near, grid->low, grid->high));
        const float32x4_t error = vmulq_f32(vsubq_f32(steps, near), vdupq_n_f32(0x1p10f));
        const int32x4_t whole = vcvtnq_s32_f32(error);
        sum = vmlal_s32(sum, vget_low_s32(whole), vget_low_s32(whole));
        sum = vmlal_s32(sum, vget_high_s32(whole), vget_high_s32(whole));
    }
    return vaddvq_s64(sum);
}

struct range {
    float32x4_t low, high;
    uint32x4_t ordered; /* no NaN was seen */
};

static inline void widen_neon(struct range *range, float32x4_t x)
{
    range->low = vminnmq_f32(x, range->low); /* of NaN and a number the number */
    range->high = vmaxnmq_f32(x, range->high);
    range->ordered = vandq_u32(range->ordered, vceqq_f32(x, x));
}

/* Widens low[0] and high[0] by all but the last n % 16; returns 0 where one of them is NaN. */
static int range_row_neon(const float *x, size_t n, float *low, float *high)
{
    const struct range empty = {vdupq_n_f32(QSDK_INFINITY), vdupq_n_f32(-QSDK_INFINITY),
                                vdupq_n_u32(~(uint32_t)0)};
    struct range ranges[4] = {empty, empty, empty, empty};
    for (size_t i = 0; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 4; k++)
            widen_neon(&ranges[k], vld1q_f32(x + i + 4 * k));
    for (size_t k = 1; k < 4; k++) {
        ranges[0].low = vminnmq_f32(ranges[0].low, ranges[k].low);
        ranges[0].high = vmaxnmq_f32(ranges[0].high, ranges[k].high);
        ranges[0].ordered = vandq_u32(ranges[0].ordered, ranges[k].ordered);
    }
    const float least = vminnmvq_f32(ranges[0].low), most = vmaxnmvq_f32(ranges[0].high);
    *low = (least < *low ? least : *low) + 0.0f; /* no -0 */
    *high = (most > *high ? most : *high) + 0.0f;
    return vminvq_u32(ranges[0].ordered) && *low > -QSDK_INFINITY && *high < QSDK_INFINITY;
}

void qsdk_quantize_rows_neon(const float *x, size_t rows, size_t length, const float *scale,
                             const int32_t *zero_point, int32_t qmin, int32_t qmax,
                             uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++, x += length, codes += length) {
        const struct grid grid = grid_neon(scale[r], zero_point[r], qmin, qmax);
        const size_t done = quantize_row_neon(x, length, &grid, zero_point[r], codes);
        qsdk_quantize_rows_portable(x + done, 1, length - done, scale + r, zero_point + r, qmin,
                                    qmax, codes + done);
    }
}

void qsdk_squared_error_rows_neon(const float *x, size_t rows, size_t length, const float *scale,
                                  const int32_t *zero_point, int32_t qmin, int32_t qmax,
                                  int64_t *error)
{
    const size_t done = length / 4 * 4;
    for (size_t r = 0; r < rows; r++, x += length) {
        const struct grid grid = grid_neon(scale[r], zero_point[r], qmin, qmax);
        qsdk_squared_error_rows_portable(x + done, 1, length - done, scale + r, zero_point + r,
                                         qmin, qmax, error + r);
        error[r] += squared_error_row_neon(x, done, &grid);
    }
}

int qsdk_range_rows_neon(const float *x, size_t rows, size_t length, float *low, float *high)
{
    const size_t done = length / 16 * 16;
    int finite = 1;
    for (size_t r = 0; r < rows; r++, x += length) {
        low[r] = QSDK_INFINITY;
        high[r] = -QSDK_INFINITY;
        if (done < length)
            finite &= qsdk_range_rows_portable(x + done, 1, length - done, low + r, high + r);
        if (done > 0)
            finite &= range_row_neon(x, done, low + r, high + r);
    }
    return finite;
}
#endif
