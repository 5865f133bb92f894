/* The tiles of AMX in plain C, for machines without them: what loading, storing and tdpbusd do, as
 * the manual has it. Shapes that would fault end the program. Included before a file that uses them;
 * what it cannot show is whether the real instructions are encoded and configured well. */
#ifndef AMX_MODEL_H
#define AMX_MODEL_H

#include <immintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    int rows, bytes;
    uint8_t at[16][64];
} model_tiles[8];

static inline void model_demand(int right, const char *what)
{
    if (!right) {
        printf("tiles: %s\n", what);
        exit(1);
    }
}

static inline void model_configure(const void *config)
{
    const uint8_t *given = config;
    model_demand(given[0] == 1 && given[1] == 0, "palette 1, start row 0");
    for (int t = 0; t < 8; t++) {
        uint16_t bytes;
        memcpy(&bytes, given + 16 + 2 * t, 2);
        model_tiles[t].rows = given[48 + t], model_tiles[t].bytes = bytes;
        model_demand(bytes <= 64 && model_tiles[t].rows <= 16, "up to 16 rows of 64 bytes");
        memset(model_tiles[t].at, 0, sizeof model_tiles[t].at);
    }
}

static inline void model_load(int t, const void *base, size_t stride)
{
    memset(model_tiles[t].at, 0, sizeof model_tiles[t].at);
    for (int r = 0; r < model_tiles[t].rows; r++)
        memcpy(model_tiles[t].at[r], (const uint8_t *)base + (size_t)r * stride,
               (size_t)model_tiles[t].bytes);
}

static inline void model_store(int t, void *base, size_t stride)
{
    for (int r = 0; r < model_tiles[t].rows; r++)
        memcpy((uint8_t *)base + (size_t)r * stride, model_tiles[t].at[r],
               (size_t)model_tiles[t].bytes);
}

static inline void model_zero(int t) { memset(model_tiles[t].at, 0, sizeof model_tiles[t].at); }

/* c[m][n] += sum over k, j of a[m][4 k + j] (signed where it says) * b[k][4 n + j] (signed) */
static inline void model_multiply(int c, int a, int b, int a_signed)
{
    model_demand(model_tiles[a].rows == model_tiles[c].rows, "rows of a and c");
    model_demand(model_tiles[a].bytes == 4 * model_tiles[b].rows, "depth of a and b");
    model_demand(model_tiles[b].bytes == model_tiles[c].bytes, "outputs of b and c");
    for (int m = 0; m < model_tiles[c].rows; m++)
        for (int n = 0; n < model_tiles[c].bytes / 4; n++) {
            uint32_t sum;
            memcpy(&sum, &model_tiles[c].at[m][4 * n], 4);
            for (int k = 0; k < model_tiles[b].rows; k++)
                for (int j = 0; j < 4; j++) {
                    const uint8_t byte = model_tiles[a].at[m][4 * k + j];
                    const int left = a_signed ? (int8_t)byte : byte;
                    sum += (uint32_t)(left * (int8_t)model_tiles[b].at[k][4 * n + j]);
                }
            memcpy(&model_tiles[c].at[m][4 * n], &sum, 4);
        }
}

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#undef _tile_dpbssd
#define _tile_loadconfig(config) model_configure(config)
#define _tile_release() (void)0
#define _tile_zero(t) model_zero(t)
#define _tile_loadd(t, base, stride) model_load(t, base, stride)
#define _tile_stored(t, base, stride) model_store(t, base, stride)
#define _tile_dpbusd(c, a, b) model_multiply(c, a, b, 0)
#define _tile_dpbssd(c, a, b) model_multiply(c, a, b, 1)

#endif
