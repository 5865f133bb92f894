/* ARMv8.0: a tile is up to 3 vectors of 4 positions times 4 outputs. A step multiplies bytes to 16
 * bits, where no product overflows, and adds neighbours to 32 bits; the adding limits it. Sums of a
 * position are in two parts until the end. */
#include "conv_int8_results.h"

#if defined(__aarch64__) && defined(__GNUC__)
#define TARGET
#define SET(name) name##_neon
#include "conv_int8_neon.h"

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void sum_neon(const tile_t *tile, int32_t *sums, int block, int vectors, size_t unit)
{
    int32x4_t low[4][3], high[4][3];
#pragma GCC unroll 4
    for (int n = 0; n < block && n < 4; n++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            low[n][v] = high[n][v] = vdupq_n_s32(0);
    const uint8_t *w = tile->weights, *x[3];
    for (int v = 0; v < vectors; v++)
        x[v] = tile->x + unit * tile->at[v].position;
    for (size_t k = 0; k < tile->layer->steps; k++, w += 4 * block) {
        const size_t offset = tile->layer->offsets[k];
        int8x16_t quads[3];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            quads[v] = load_neon(x[v] + offset, unit);
#pragma GCC unroll 4
        for (int n = 0; n < block && n < 4; n++) {
            int32_t four;
            memcpy(&four, w + 4 * n, sizeof four);
            const int8x8_t weights = vreinterpret_s8_s32(vdup_n_s32(four));
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++) {
                low[n][v] = vpadalq_s16(low[n][v], vmull_s8(vget_low_s8(quads[v]), weights));
                high[n][v] = vpadalq_s16(high[n][v], vmull_s8(vget_high_s8(quads[v]), weights));
            }
        }
    }
#pragma GCC unroll 4
    for (int n = 0; n < block && n < 4; n++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            vst1q_s32(sums + n * QSDK_CONV_INT8_POSITIONS + 4 * v,
                      vaddq_s32(vdupq_n_s32(tile->start[n]), vpaddq_s32(low[n][v], high[n][v])));
}

const struct qsdk_conv_int8_set qsdk_conv_int8_neon = {
    .name = "neon",
    .coding = &qsdk_linear_int8_neon,
    .is_signed = 1,
    .lanes = 4,
    .vectors = 3,
    .block = 4,
    .macs = 20,
    .quads = quads_neon,
    .tile = tile_neon,
    .spread = qsdk_conv_int8_spread_neon,
    .rows = qsdk_conv_int8_rows_neon,
};
#endif
