/* One iteration: 64 channels of eight outputs against a word of each column. Lanes are outputs; bytes
 * count the misses, for 31 words at most before they are added up. Limited by three operations (xor,
 * count, add) for 128 places. */
#include "conv_binary_tile.h"

#if defined(__aarch64__)
#include <arm_neon.h>

enum { ROWS = 8, VECTORS = ROWS / 2, FLUSH = 31 }; /* 31 words add at most 31 * 8 to a byte */

/* Adds some words of channels to misses in bytes. */
QSDK_INLINE void words_neon(const uint8_t *w, const uint8_t *const *x, size_t step, size_t count,
                            const int columns, uint8x16_t bytes[][VECTORS])
{
    for (size_t word = 0; word < count; word++, w += 8 * ROWS) {
        uint8x16_t in[QSDK_CONV_BINARY_COLUMNS];
        QSDK_UNROLL
        for (int c = 0; c < columns; c++) {
            uint64_t signs;
            memcpy(&signs, x[c] + word * step, sizeof signs);
            in[c] = vreinterpretq_u8_u64(vdupq_n_u64(signs));
        }
        QSDK_UNROLL
        for (int v = 0; v < VECTORS; v++) {
            const uint8x16_t weights = vld1q_u8(w + 16 * v);
            QSDK_UNROLL
            for (int c = 0; c < columns; c++)
                bytes[c][v] = vaddq_u8(bytes[c][v], vcntq_u8(veorq_u8(weights, in[c])));
        }
    }
}

/* Adds bytes to sums of 32 bits, and leaves none. */
QSDK_INLINE void flush_neon(uint8x16_t bytes[][VECTORS], const int columns, int32_t *misses)
{
    for (int c = 0; c < columns; c++)
        for (int v = 0; v < VECTORS; v += 2, misses += 4) {
            const uint32x4_t first = vpaddlq_u16(vpaddlq_u8(bytes[c][v]));
            const uint32x4_t second = vpaddlq_u16(vpaddlq_u8(bytes[c][v + 1]));
            const int32x4_t here = vreinterpretq_s32_u32(vpaddq_u32(first, second));
            vst1q_s32(misses, vaddq_s32(vld1q_s32(misses), here));
            bytes[c][v] = bytes[c][v + 1] = vdupq_n_u8(0);
        }
}

QSDK_INLINE void misses_neon(const binary_tile_t *tile, const uint8_t *weights, const int columns,
                             int32_t *misses)
{
    const struct runs runs = runs_portable(tile);
    const size_t step = 8 * (size_t)tile->layer->bits;
    uint8x16_t bytes[QSDK_CONV_BINARY_COLUMNS][VECTORS];
    size_t held = 0;
    memset(misses, 0, (size_t)columns * ROWS * sizeof *misses);
    QSDK_UNROLL
    for (int c = 0; c < columns; c++)
        QSDK_UNROLL
        for (int v = 0; v < VECTORS; v++)
            bytes[c][v] = vdupq_n_u8(0);
    for (size_t i = 0; i < tile->down; i++)
        for (size_t run = 0; run < runs.count; run++) {
            const uint8_t *w = weights + i * runs.w_down + run * runs.w_step;
            const uint8_t *x[QSDK_CONV_BINARY_COLUMNS];
            QSDK_UNROLL
            for (int c = 0; c < columns; c++)
                x[c] = column_portable(tile, c) + i * runs.x_down + run * runs.x_step;
            for (size_t lane = 0, here; lane < runs.lanes; lane += here, held += here) {
                if (held == FLUSH) {
                    flush_neon(bytes, columns, misses);
                    held = 0;
                }
                here = runs.lanes - lane < FLUSH - held ? runs.lanes - lane : FLUSH - held;
                words_neon(w + lane * 8 * ROWS, x, step, here, columns, bytes);
                QSDK_UNROLL
                for (int c = 0; c < columns; c++)
                    x[c] += here * step;
            }
        }
    flush_neon(bytes, columns, misses);
}

static void tile_neon(const binary_tile_t *tile, float *y)
{
    QSDK_CONV_BINARY_TILE(misses_neon, ROWS);
}

const struct qsdk_conv_binary_set qsdk_conv_binary_neon = {
    .name = "neon",
    .coding = &qsdk_sign_codes_neon,
    .lane_bytes = 8,
    .code_bytes = 8,
    .block_rows = ROWS,
    .tile = tile_neon,
};

#endif
