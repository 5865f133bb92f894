/* Plain C: what the other files of this folder must equal. One iteration: a word of eight outputs
 * against a word of each column; bytes count the misses. Limited by the steps of counting bits
 * without an instruction for it. */
#include "conv_binary_tile.h"

enum { ROWS = 8, FLUSH = 31 }; /* 31 words add at most 31 * 8 to a byte */

/* Ones of each byte. */
QSDK_INLINE uint64_t ones_portable(uint64_t v)
{
    v -= v >> 1 & UINT64_C(0x5555555555555555);
    v = (v & UINT64_C(0x3333333333333333)) + (v >> 2 & UINT64_C(0x3333333333333333));
    return (v + (v >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
}

/* Sum of the bytes, which may be up to 255 each. */
QSDK_INLINE int32_t total_portable(uint64_t v)
{
    const uint64_t mask = UINT64_C(0x00ff00ff00ff00ff), twos = (v & mask) + (v >> 8 & mask);
    return (int32_t)(twos * UINT64_C(0x0001000100010001) >> 48);
}

/* Adds the misses of a column in one run. */
QSDK_INLINE void run_portable(const uint8_t *w, const uint8_t *x, size_t step, size_t lanes,
                              int32_t *misses)
{
    for (size_t start = 0; start < lanes; start += FLUSH) {
        const size_t end = lanes - start < FLUSH ? lanes : start + FLUSH;
        uint64_t bytes[ROWS] = {0};
        for (size_t lane = start; lane < end; lane++) {
            uint64_t in, rows[ROWS];
            memcpy(&in, x + lane * step, sizeof in);
            memcpy(rows, w + lane * sizeof rows, sizeof rows);
            for (int r = 0; r < ROWS; r++)
                bytes[r] += ones_portable(rows[r] ^ in);
        }
        for (int r = 0; r < ROWS; r++)
            misses[r] += total_portable(bytes[r]);
    }
}

QSDK_INLINE void misses_portable(const binary_tile_t *tile, const uint8_t *weights, const int columns,
                                 int32_t *misses)
{
    const struct runs runs = runs_portable(tile);
    memset(misses, 0, (size_t)columns * ROWS * sizeof *misses);
    for (int c = 0; c < columns; c++, misses += ROWS)
        for (size_t i = 0; i < tile->down; i++)
            for (size_t run = 0; run < runs.count; run++)
                run_portable(weights + i * runs.w_down + run * runs.w_step,
                             column_portable(tile, c) + i * runs.x_down + run * runs.x_step,
                             8 * (size_t)tile->layer->bits, runs.lanes, misses);
}

static void tile_portable(const binary_tile_t *tile, float *y)
{
    QSDK_CONV_BINARY_TILE(misses_portable, ROWS);
}

const struct qsdk_conv_binary_set qsdk_conv_binary_portable = {
    .name = "portable",
    .coding = &qsdk_sign_codes_portable,
    .lane_bytes = 8,
    .code_bytes = 8,
    .block_rows = ROWS,
    .tile = tile_portable,
};
