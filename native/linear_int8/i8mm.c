/* ARMv8.6: smmla multiplies 2 rows of 8 codes with 2 outputs of 8 weights, 32 products. One step: 8
 * loads and 8 zips for 16 outputs of 8 weights, a load per row, 8 smmla per two rows, which limit
 * it. A last odd row is multiplied twice. */
#include "linear_int8_set.h"

#ifdef QSDK_LINEAR_INT8_NEW_ARM
#define LINEAR_INT8_VECTORS
#include "linear_int8_neon.h"
#include "linear_int8_table.h"

#define SET(name) name##_i8mm
#define TARGET __attribute__((target("arch=armv8.2-a+i8mm")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define ROWS 4

/* Two rows, as smmla takes them: 8 codes of one, then of the other. */
INLINE int8x16_t pair_i8mm(const uint8_t *first, const uint8_t *second)
{
    return vreinterpretq_s8_u8(vcombine_u8(vld1_u8(first), vld1_u8(second)));
}

/* Outputs n, n + 1 of two rows are one accumulator: (row 0, n), (row 0, n + 1), (row 1, n), ... */
INLINE void store_i8mm(const struct qsdk_linear_int8_block *o, const int32x4_t *acc, int b, int all,
                       int row, int is_second)
{
    int32_t *tile = o->tile + 16 * (row * all + b);
    for (int v = 0; v < 4; v++) {
        const int64x2_t left = vreinterpretq_s64_s32(acc[2 * v]);
        const int64x2_t right = vreinterpretq_s64_s32(acc[2 * v + 1]);
        const int64x2_t sums = is_second ? vzip2q_s64(left, right) : vzip1q_s64(left, right);
        const int32x4_t start = vld1q_s32(o->start + 16 * b + 4 * v);
        vst1q_s32(tile + 4 * v, vaddq_s32(start, vreinterpretq_s32_s64(sums)));
    }
}

INLINE void block_i8mm(const struct qsdk_linear_int8_block *o, int rows, int pairs, int b, int all)
{
    int32x4_t acc[2][8];
    const uint8_t *w = o->weights + (size_t)b * o->apart, *a[4];
    for (int r = 0; r < 2 * pairs; r++)
        a[r] = o->codes + (size_t)(r < rows ? r : rows - 1) * o->stride;
#pragma GCC unroll 16
    for (int i = 0; i < 8 * pairs; i++)
        acc[i / 8][i % 8] = vdupq_n_s32(0);
    for (size_t q = 0; q < o->quads; q += 2, w += 128) {
        int8x16_t codes[2];
#pragma GCC unroll 2
        for (int p = 0; p < pairs; p++)
            codes[p] = pair_i8mm(a[2 * p] + 4 * q, a[2 * p + 1] + 4 * q);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const int32x4_t low = load_neon(w + 16 * v), high = load_neon(w + 64 + 16 * v);
            const int8x16_t left = vreinterpretq_s8_s32(vzip1q_s32(low, high));
            const int8x16_t right = vreinterpretq_s8_s32(vzip2q_s32(low, high));
#pragma GCC unroll 2
            for (int p = 0; p < pairs; p++) {
                acc[p][2 * v] = vmmlaq_s32(acc[p][2 * v], codes[p], left);
                acc[p][2 * v + 1] = vmmlaq_s32(acc[p][2 * v + 1], codes[p], right);
            }
        }
    }
    for (int r = 0; r < rows; r++)
        store_i8mm(o, acc[r / 2], b, all, r, r % 2);
}

TARGET static void multiply_i8mm(const struct qsdk_linear_int8_block *o, int rows, int blocks)
{
    for (int b = 0; b < blocks; b++)
        if (rows > 2)
            block_i8mm(o, rows, 2, b, blocks);
        else
            block_i8mm(o, rows, 1, b, blocks);
}

TABLE(i8mm, ANY, 1, 8, 100);
#endif
