/* 16 codes at a time; writing floats limits it. What is left of a row goes to the portable code. */
#include "arrays.h"

#ifdef QSDK_NEON_ARRAYS
#include <arm_neon.h>

static inline void four_neon(uint16x4_t codes, int32x4_t zero_points, float32x4_t scales, float *x)
{
    const int32x4_t wide = vreinterpretq_s32_u32(vmovl_u16(codes));
    vst1q_f32(x, vmulq_f32(vcvtq_f32_s32(vsubq_s32(wide, zero_points)), scales));
}

/* All but the last length % 16 codes; returns how many that is. */
static size_t dequantize_row_neon(const uint8_t *codes, size_t length, float scale,
                                  int32_t zero_point, int is_signed, float *x)
{
    const uint8_t flip = is_signed ? 0x80 : 0; /* int8 + 128 */
    const uint8x16_t flips = vdupq_n_u8(flip);
    const int32x4_t zero_points = vdupq_n_s32(zero_point + flip);
    const float32x4_t scales = vdupq_n_f32(scale);
    size_t i = 0;
    for (; i + 16 <= length; i += 16) {
        const uint8x16_t some = veorq_u8(vld1q_u8(codes + i), flips);
        const uint16x8_t low = vmovl_u8(vget_low_u8(some)), high = vmovl_u8(vget_high_u8(some));
        four_neon(vget_low_u16(low), zero_points, scales, x + i);
        four_neon(vget_high_u16(low), zero_points, scales, x + i + 4);
        four_neon(vget_low_u16(high), zero_points, scales, x + i + 8);
        four_neon(vget_high_u16(high), zero_points, scales, x + i + 12);
    }
    return i;
}

void qsdk_dequantize_rows_neon(const uint8_t *codes, size_t rows, size_t length,
                               const float *scale, const int32_t *zero_point, int is_signed,
                               float *x)
{
    for (size_t r = 0; r < rows; r++, codes += length, x += length) {
        const size_t done =
            dequantize_row_neon(codes, length, scale[r], zero_point[r], is_signed, x);
        qsdk_dequantize_rows_portable(codes + done, 1, length - done, scale + r, zero_point + r,
                                      is_signed, x + done);
    }
}
#endif
