/* ARMv8.2 dot products: a tile is up to 3 vectors of 4 positions times 8 outputs. A step multiplies
 * each quad of codes, signed, by each of 8 quads of weights that lie in 2 vectors; the multiplier
 * limits it. */
#include "conv_int8_results.h"

#if defined(__aarch64__) && defined(__GNUC__) && (!defined(__clang__) || __clang_major__ >= 16)
#if defined(__clang__)
#define TARGET __attribute__((target("dotprod")))
#else
#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define SET(name) name##_dotprod
#include "conv_int8_neon.h"

/* block and vectors are constants: accumulators stay in registers. */
TILE_INLINE void sum_dotprod(const tile_t *tile, int32_t *sums, int block, int vectors, size_t unit)
{
    int32x4_t acc[QSDK_CONV_INT8_BLOCK][3];
#pragma GCC unroll 8
    for (int n = 0; n < block; n++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            acc[n][v] = vdupq_n_s32(tile->start[n]);
    const uint8_t *w = tile->weights, *x[3];
    for (int v = 0; v < vectors; v++)
        x[v] = tile->x + unit * tile->at[v].position;
    for (size_t k = 0; k < tile->layer->steps; k++, w += 4 * block) {
        const size_t offset = tile->layer->offsets[k];
        int8x16_t quads[3];
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            quads[v] = load_dotprod(x[v] + offset, unit);
#pragma GCC unroll 8
        for (int n = 0; n < block; n++) {
            int32_t four;
            memcpy(&four, w + 4 * n, sizeof four);
            const int8x16_t weights = vreinterpretq_s8_s32(vdupq_n_s32(four));
#pragma GCC unroll 3
            for (int v = 0; v < vectors; v++)
                acc[n][v] = vdotq_s32(acc[n][v], quads[v], weights);
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < block; n++)
#pragma GCC unroll 3
        for (int v = 0; v < vectors; v++)
            vst1q_s32(sums + n * QSDK_CONV_INT8_POSITIONS + 4 * v, acc[n][v]);
}

const struct qsdk_conv_int8_set qsdk_conv_int8_dotprod = {
    .name = "dotprod",
    .coding = &qsdk_linear_int8_dotprod,
    .is_signed = 1,
    .lanes = 4,
    .vectors = 3,
    .block = 8,
    .macs = 60,
    .quads = quads_dotprod,
    .tile = tile_dotprod,
    .spread = qsdk_conv_int8_spread_neon,
    .rows = qsdk_conv_int8_rows_neon,
};
#endif
