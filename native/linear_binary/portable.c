/* One iteration: a word of eight rows against a word of each plane of the input; bytes count the
 * misses. Limited by the steps of counting bits without an instruction for it. */
#include "linear_binary.h"

#include <string.h>

enum { ROWS = 8, FLUSH = 31 }; /* 31 words add at most 31 * 8 to a byte */

/* Ones of each byte. */
static inline uint64_t ones_portable(uint64_t v)
{
    v -= v >> 1 & UINT64_C(0x5555555555555555);
    v = (v & UINT64_C(0x3333333333333333)) + (v >> 2 & UINT64_C(0x3333333333333333));
    return (v + (v >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
}

/* Sum of the bytes, which may be up to 255 each. */
static inline int32_t total_portable(uint64_t v)
{
    const uint64_t mask = UINT64_C(0x00ff00ff00ff00ff), twos = (v & mask) + (v >> 8 & mask);
    return (int32_t)(twos * UINT64_C(0x0001000100010001) >> 48);
}

/* Misses of one plane of the weight and one of the input, words first .. last of a block. */
static void misses_portable(const uint8_t *weights, int parts, const uint64_t *x, int bits,
                            size_t words, int32_t *misses)
{
    memset(misses, 0, ROWS * sizeof *misses);
    for (size_t start = 0; start < words; start += FLUSH) {
        const size_t end = words - start < FLUSH ? words : start + FLUSH;
        uint64_t bytes[ROWS] = {0}, w[2][ROWS];
        for (size_t word = start; word < end; word++) {
            const uint64_t in = x[word * (size_t)bits];
            memcpy(w, weights + word * (size_t)parts * sizeof *w, (size_t)parts * sizeof *w);
            for (int r = 0; r < ROWS; r++)
                bytes[r] += ones_portable(parts == 1 ? w[0][r] ^ in
                                                     : (w[0][r] & ~in) | (w[1][r] & in));
        }
        for (int r = 0; r < ROWS; r++)
            misses[r] += total_portable(bytes[r]);
    }
}

/* Adds to y. */
static void block_portable(const qsdk_linear_binary *layer, size_t block, const uint64_t *x,
                           const float *beta, float *y)
{
    const size_t words = qsdk_binary_words_portable(layer);
    const size_t groups = qsdk_binary_groups_portable(layer);
    const size_t planes = (size_t)layer->planes, chunk = (size_t)layer->parts * ROWS * 8;
    for (size_t g = 0; g < groups; g++) {
        float part[ROWS] = {0};
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        const int32_t all = qsdk_binary_places_portable(layer, g);
        for (size_t i = 0; i < planes; i++) {
            const size_t at = ((block * groups + g) * planes + i) * ROWS;
            const uint8_t *weights = layer->weights + ((block * planes + i) * words + first) * chunk;
            float t[ROWS] = {0};
            for (int j = 0; j < layer->bits; j++) {
                int32_t misses[ROWS];
                misses_portable(weights, layer->parts, x + first * (size_t)layer->bits + j,
                                layer->bits, last - first, misses);
                for (int r = 0; r < ROWS; r++) {
                    const int32_t places = layer->places ? layer->places[at + (size_t)r] : all;
                    t[r] += beta[j] * (float)(places - 2 * misses[r]);
                }
            }
            for (int r = 0; r < ROWS; r++)
                part[r] += layer->alpha[at + (size_t)r] * t[r];
        }
        for (int r = 0; r < ROWS; r++)
            y[r] += part[r];
    }
}

static void rows_portable(const qsdk_linear_binary *layer, size_t first, size_t count,
                          const void *input, const float *beta, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, here = layer->rows - row < ROWS ? layer->rows - row : ROWS;
        float out[ROWS] = {0};
        block_portable(layer, block, input, beta, out);
        memcpy(y + row, out, here * sizeof *out);
    }
}

/* Floats: each four bits of a row choose one of the 16 sums of four elements. Adds to y. */
static void float_block_portable(const qsdk_linear_binary *layer, size_t block, const float *tables,
                                 float *y)
{
    const size_t bytes = qsdk_binary_words_portable(layer) * 8;
    const size_t groups = qsdk_binary_groups_portable(layer), planes = (size_t)layer->planes;
    const size_t chunk = (size_t)layer->parts * ROWS;
    for (size_t g = 0; g < groups; g++) {
        float part[ROWS] = {0};
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (size_t i = 0; i < planes; i++) {
            const uint8_t *w = layer->weights + ((block * planes + i) * bytes + 8 * first) * chunk;
            const float *table = tables + 8 * first * 32;
            float t[ROWS] = {0};
            for (size_t byte = 8 * first; byte < 8 * last; byte++, w += chunk)
                for (int high = 0; high < 2; high++, table += 16)
                    for (int r = 0; r < ROWS; r++) {
                        const float plus = table[w[r] >> 4 * high & 15];
                        const float minus =
                            layer->parts == 1 ? 0 : table[w[ROWS + r] >> 4 * high & 15];
                        t[r] += plus - minus;
                    }
            const float *alpha = layer->alpha + ((block * groups + g) * planes + i) * ROWS;
            for (int r = 0; r < ROWS; r++)
                part[r] += alpha[r] * t[r];
        }
        for (int r = 0; r < ROWS; r++)
            y[r] += part[r];
    }
}

void qsdk_binary_float_rows_portable(const qsdk_linear_binary *layer, size_t first, size_t count,
                                     const float *tables, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, here = layer->rows - row < ROWS ? layer->rows - row : ROWS;
        float out[ROWS] = {0};
        float_block_portable(layer, block, tables, out);
        memcpy(y + row, out, here * sizeof *out);
    }
}

const struct qsdk_linear_binary_set qsdk_linear_binary_portable = {
    .name = "portable",
    .lane_bytes = 8,
    .lanes = 1,
    .apart = 1,
    .block_rows = ROWS,
    .float_block_rows = ROWS,
    .coder = &qsdk_sign_codes_portable,
    .rows = rows_portable,
    .float_rows = qsdk_binary_float_rows_portable,
};
