/* The vectors of Advanced SIMD: names for what linear_int8_loops.h and linear_int8_rows.h do. */
#if defined(LINEAR_INT8_VECTORS) && defined(__aarch64__)
#include <arm_neon.h>

#define LANES 4
#define VEC(name) name##_neon
#define OPERATION static inline __attribute__((always_inline, unused))

typedef int32x4_t ints_t;
typedef float32x4_t floats_t;

OPERATION ints_t load_neon(const void *p) { return vreinterpretq_s32_u8(vld1q_u8(p)); }
OPERATION ints_t load_ints_neon(const int32_t *p) { return vld1q_s32(p); }
OPERATION void store_ints_neon(int32_t *p, ints_t a) { vst1q_s32(p, a); }
OPERATION floats_t load_floats_neon(const float *p) { return vld1q_f32(p); }
OPERATION void store_floats_neon(float *p, floats_t a) { vst1q_f32(p, a); }
OPERATION ints_t all_neon(int32_t a) { return vdupq_n_s32(a); }
OPERATION floats_t all_floats_neon(float a) { return vdupq_n_f32(a); }

OPERATION ints_t repeat_neon(const uint8_t *codes)
{
    int32_t four;
    memcpy(&four, codes, sizeof four);
    return vdupq_n_s32(four);
}

OPERATION ints_t add_neon(ints_t a, ints_t b) { return vaddq_s32(a, b); }
OPERATION ints_t minus_neon(ints_t a, ints_t b) { return vsubq_s32(a, b); }
OPERATION ints_t times_neon(ints_t a, ints_t b) { return vmulq_s32(a, b); }
OPERATION ints_t larger_neon(ints_t a, ints_t b) { return vmaxq_s32(a, b); }
OPERATION ints_t magnitude_neon(floats_t a) { return vreinterpretq_s32_f32(vabsq_f32(a)); }

/* Of least and most the second operand is the result where either is NaN, or both are zeros. */
OPERATION floats_t least_neon(floats_t a, floats_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
OPERATION floats_t most_neon(floats_t a, floats_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
OPERATION floats_t divide_neon(floats_t a, floats_t b) { return vdivq_f32(a, b); }
OPERATION floats_t multiply_floats_neon(floats_t a, floats_t b) { return vmulq_f32(a, b); }
OPERATION floats_t add_floats_neon(floats_t a, floats_t b) { return vaddq_f32(a, b); }
OPERATION floats_t to_floats_neon(ints_t a) { return vcvtq_f32_s32(a); }
OPERATION ints_t nearest_neon(floats_t a) { return vcvtnq_s32_f32(a); }
OPERATION int32_t largest_of_neon(ints_t a) { return vmaxvq_s32(a); }
OPERATION float least_of_neon(floats_t a) { return vminvq_f32(a); }
OPERATION float most_of_neon(floats_t a) { return vmaxvq_f32(a); }

/* What is left after rounding, if its magnitude is larger than `far`. */
OPERATION floats_t farther_neon(floats_t far, floats_t a)
{
    return vmaxnmq_f32(far, vabdq_f32(a, vrndnq_f32(a)));
}

OPERATION int any_above_neon(floats_t a, floats_t b)
{
    return vmaxvq_u32(vcgtq_f32(a, b)) != 0;
}

OPERATION floats_t bounded_neon(floats_t a, floats_t low, floats_t high)
{
    return least_neon(most_neon(a, low), high); /* NaN is low: conversion would make it 0 */
}

/* 16 of steps + zero, held within -128..127. */
OPERATION void store_packed_neon(uint8_t *p, const ints_t *steps, int zero)
{
    const int16x8_t zeros = vdupq_n_s16((int16_t)zero);
    const int16x8_t first = vcombine_s16(vqmovn_s32(steps[0]), vqmovn_s32(steps[1]));
    const int16x8_t second = vcombine_s16(vqmovn_s32(steps[2]), vqmovn_s32(steps[3]));
    const int8x16_t bytes = vcombine_s8(vqmovn_s16(vqaddq_s16(first, zeros)),
                                        vqmovn_s16(vqaddq_s16(second, zeros)));
    vst1q_u8(p, vreinterpretq_u8_s8(bytes));
}

OPERATION void store_bytes_neon(uint8_t *p, ints_t a)
{
    const uint16x4_t half = vmovn_u32(vreinterpretq_u32_s32(a));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(half, half));
    const uint32_t four = vget_lane_u32(vreinterpret_u32_u8(bytes), 0);
    memcpy(p, &four, sizeof four);
}

OPERATION ints_t requantize_neon(const int32_t *acc, const int32_t *mantissa, const int64_t *addend,
                                 const int32_t *right, int low, int high)
{
    const int32x4_t a = vld1q_s32(acc), m = vld1q_s32(mantissa), r = vnegq_s32(vld1q_s32(right));
    const int64x2_t first = vmlal_s32(vld1q_s64(addend), vget_low_s32(a), vget_low_s32(m));
    const int64x2_t second = vmlal_s32(vld1q_s64(addend + 2), vget_high_s32(a), vget_high_s32(m));
    const int32x4_t steps = vcombine_s32(vqmovn_s64(vshlq_s64(first, vmovl_s32(vget_low_s32(r)))),
                                         vqmovn_s64(vshlq_s64(second, vmovl_s32(vget_high_s32(r)))));
    return vminq_s32(vmaxq_s32(steps, vdupq_n_s32(low)), vdupq_n_s32(high));
}
#endif
