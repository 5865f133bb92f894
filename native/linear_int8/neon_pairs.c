/* ARMv8.0, for weights above -128: then smlal can add a second product in 16 bits, of the next 4
 * inputs, before sadalp widens. Three operations for 16 products limit it. */
#include "linear_int8_set.h"

#if defined(__aarch64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_neon.h"
#include "linear_int8_table.h"

#define SET(name) name##_pairs_neon
#define ROWS 2

/* `rows` rows by one block of 16 outputs; sums as in neon.c. */
OPERATION void block_pairs_neon(const struct qsdk_linear_int8_block *o, int rows, int b, int all)
{
    int32x4_t low[2][4], high[2][4];
    const uint8_t *w = o->weights + (size_t)b * o->apart;
#pragma GCC unroll 8
    for (int i = 0; i < 4 * rows; i++)
        low[i / 4][i % 4] = high[i / 4][i % 4] = vdupq_n_s32(0);
    for (size_t q = 0; q < o->quads; q += 2, w += 128)
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            const uint8_t *a = o->codes + (size_t)r * o->stride + 4 * q;
            const int8x16_t first = vreinterpretq_s8_s32(repeat_neon(a));
            const int8x16_t second = vreinterpretq_s8_s32(repeat_neon(a + 4));
#pragma GCC unroll 4
            for (int v = 0; v < 4; v++) {
                const int8x16_t one = vreinterpretq_s8_s32(load_neon(w + 16 * v));
                const int8x16_t two = vreinterpretq_s8_s32(load_neon(w + 64 + 16 * v));
                const int16x8_t left = vmull_s8(vget_low_s8(first), vget_low_s8(one));
                const int16x8_t right = vmull_high_s8(first, one);
                low[r][v] = vpadalq_s16(
                    low[r][v], vmlal_s8(left, vget_low_s8(second), vget_low_s8(two)));
                high[r][v] = vpadalq_s16(high[r][v], vmlal_high_s8(right, second, two));
            }
        }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < 4; v++) {
            const int32x4_t start = vld1q_s32(o->start + 16 * b + 4 * v);
            vst1q_s32(o->tile + 16 * (r * all + b) + 4 * v,
                      vaddq_s32(start, vpaddq_s32(low[r][v], high[r][v])));
        }
}

static void multiply_pairs_neon(const struct qsdk_linear_int8_block *o, int rows, int blocks)
{
    for (int b = 0; b < blocks; b++)
        if (rows == 2)
            block_pairs_neon(o, 2, b, blocks);
        else
            block_pairs_neon(o, 1, b, blocks);
}

TABLE(neon_pairs, NARROW, 1, 8, 12);
#endif
