/* ARMv8.0, exact for all weights: smull makes 8 products in 16 bits, sadalp adds pairs of them in
 * 32. Two operations for 8 products limit it. Codes are signed here, so that they fit smull. */
#include "linear_int8_set.h"

#if defined(__aarch64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_neon.h"
#include "linear_int8_table.h"

#define SET(name) name##_neon
#define TARGET
#define ROWS 2
#define WIDE 1

/* Sums of two outputs each: (k, k + 1) and (k + 2, k + 3) of one, then of the next. */
typedef struct {
    int32x4_t low, high;
} sums_t;

OPERATION sums_t none_neon(void) { return (sums_t){vdupq_n_s32(0), vdupq_n_s32(0)}; }
OPERATION ints_t total_neon(sums_t acc) { return vpaddq_s32(acc.low, acc.high); }

OPERATION sums_t dot_neon(sums_t acc, ints_t codes, ints_t weights)
{
    const int8x16_t a = vreinterpretq_s8_s32(codes), w = vreinterpretq_s8_s32(weights);
    acc.low = vpadalq_s16(acc.low, vmull_s8(vget_low_s8(a), vget_low_s8(w)));
    acc.high = vpadalq_s16(acc.high, vmull_high_s8(a, w));
    return acc;
}

#include "linear_int8_loops.h"
#include "linear_int8_rows.h"

TABLE(neon, ANY, 1, 4, 8);
#endif
