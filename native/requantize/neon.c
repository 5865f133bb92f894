/* 8 accumulators at a time, in lanes of 64 bits. What is left goes to the portable code. */
#include "arrays.h"
#include "requantize.h"

#ifdef QSDK_NEON_ARRAYS
#include <arm_neon.h>

/* Steps of two, held to 32 bits; limits are within that. */
static inline int32x2_t steps_neon(int32x2_t acc, int32x2_t mantissa, int64x2_t half,
                                   int64x2_t left)
{
    return vqmovn_s64(vshlq_s64(vmlal_s32(half, acc, mantissa), left));
}

/* All but the last length % 8; returns how many that is. */
static size_t requantize_row_neon(const int32_t *acc, size_t length,
                                  struct qsdk_multiplier multiplier, int32_t zero_point,
                                  int32_t qmin, int32_t qmax, uint8_t *codes)
{
    const int32x2_t mantissa = vdup_n_s32(multiplier.mantissa);
    const int64x2_t half = vdupq_n_s64(multiplier.half), left = vdupq_n_s64(-multiplier.right);
    const int32x4_t low = vdupq_n_s32(qmin - zero_point), high = vdupq_n_s32(qmax - zero_point);
    const uint8x8_t zero_points = vdup_n_u8((uint8_t)zero_point);
    size_t i = 0;
    for (; i + 8 <= length; i += 8) {
        int16x4_t halves[2];
        for (size_t k = 0; k < 2; k++) {
            const int32x4_t all = vld1q_s32(acc + i + 4 * k);
            const int32x4_t steps = vcombine_s32(steps_neon(vget_low_s32(all), mantissa, half, left),
                                                 steps_neon(vget_high_s32(all), mantissa, half, left));
            halves[k] = vmovn_s32(vminq_s32(vmaxq_s32(steps, low), high));
        }
        const uint16x8_t both = vreinterpretq_u16_s16(vcombine_s16(halves[0], halves[1]));
        vst1_u8(codes + i, vadd_u8(vmovn_u16(both), zero_points));
    }
    return i;
}

void qsdk_requantize_rows_neon(const int32_t *acc, size_t rows, size_t length,
                               const int32_t *mantissa, const int32_t *shift, int32_t zero_point,
                               int32_t qmin, int32_t qmax, uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++, acc += length, codes += length) {
        const size_t done =
            requantize_row_neon(acc, length, qsdk_multiplier_portable(mantissa[r], shift[r]),
                                zero_point, qmin, qmax, codes);
        qsdk_requantize_rows_portable(acc + done, 1, length - done, mantissa + r, shift + r,
                                      zero_point, qmin, qmax, codes + done);
    }
}
#endif
