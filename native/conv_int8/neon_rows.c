/* ARMv8.0, by row: 8 results at a time. A weight multiplies four codes of 16 bits and adds them in 32:
 * multiplying limits it. A pair of weights is two of these; with a stride of 2 a load takes the codes
 * of both apart. Sets with dot products do the same: their quads would need a table look-up each. */
#include "conv_int8_set.h"

#if defined(__aarch64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_neon.h"

#define TARGET
#define SET(name) name##_neon

OPERATION void widen_neon(int16_t *to, const uint8_t *codes, const int16_t *kept, int32_t zero)
{
    const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(codes));
    const int16x8_t padding = vdupq_n_s16((int16_t)zero);
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    vst1q_s16(to, vbslq_s16(vreinterpretq_u16_s16(vld1q_s16(kept)), low, padding));
    vst1q_s16(to + 8, vbslq_s16(vreinterpretq_u16_s16(vld1q_s16(kept + 8)), high, padding));
}

OPERATION void store_some_neon(float *y, floats_t values, size_t n)
{
    vst1q_lane_f32(y, values, 0);
    if (n > 1)
        vst1q_lane_f32(y + 1, values, 1);
    if (n > 2)
        vst1q_lane_f32(y + 2, values, 2);
}

OPERATION void pair_neon(ints_t *acc, const int16_t *x, size_t apart, int is_narrow, size_t stride,
                         ints_t weights, int is_one)
{
    const int16x4_t pair = vget_low_s16(vreinterpretq_s16_s32(weights));
    if (stride == 2) {
        const int16x4x2_t first = vld2_s16(x), second = vld2_s16(x + apart);
        acc[0] = vmlal_lane_s16(acc[0], first.val[0], pair, 0);
        acc[1] = vmlal_lane_s16(acc[1], second.val[0], pair, 0);
        if (is_one)
            return;
        acc[0] = vmlal_lane_s16(acc[0], first.val[1], pair, 1);
        acc[1] = vmlal_lane_s16(acc[1], second.val[1], pair, 1);
    } else {
        const size_t next = is_narrow ? apart : 4;
        acc[0] = vmlal_lane_s16(acc[0], vld1_s16(x), pair, 0);
        acc[1] = vmlal_lane_s16(acc[1], vld1_s16(x + next), pair, 0);
        if (is_one)
            return;
        acc[0] = vmlal_lane_s16(acc[0], vld1_s16(x + 1), pair, 1);
        acc[1] = vmlal_lane_s16(acc[1], vld1_s16(x + next + 1), pair, 1);
    }
}

OPERATION void order_neon(ints_t *acc, size_t stride)
{
    (void)acc; /* they never left it */
    (void)stride;
}

#include "conv_int8_rows.h"
#endif
