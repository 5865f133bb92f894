/* One row of input, as its codes, or as what of them or of its floats a set looks up. */
#include "linear_binary.h"

#include <string.h>

/* misses[part][x][w], bytes: how many of four places of the input, bits x, the digits of four bits
 * w miss. Ternary: those digits that are +1, then those that are -1. */
static void misses_portable(int parts, uint64_t misses[][16][2])
{
    static const uint8_t ones[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    for (int part = 0; part < parts; part++)
        for (int x = 0; x < 16; x++) {
            uint8_t of[16];
            for (int w = 0; w < 16; w++)
                of[w] = ones[parts == 1 ? w ^ x : part == 0 ? w & ~x : w & x];
            memcpy(misses[part][x], of, sizeof of);
        }
}

/* For every byte of places, its low four then its high, each part, and every two planes of the
 * input: the misses of the first and, if there is one, 16 times those of the second. */
static void tables_portable(const qsdk_linear_binary *layer, const uint64_t *words, uint8_t *table)
{
    const size_t count = qsdk_binary_words_portable(layer);
    const int bits = layer->bits, parts = layer->parts;
    uint64_t misses[2][16][2];
    misses_portable(parts, misses);
    for (size_t word = 0; word < count; word++, words += bits)
        for (int place = 0; place < 64; place += 4)
            for (int part = 0; part < parts; part++)
                for (int j = 0; j < bits; j += 2, table += 16) {
                    uint64_t both[2];
                    memcpy(both, misses[part][words[j] >> place & 15], sizeof both);
                    for (int half = 0; half < 2 && j + 1 < bits; half++)
                        both[half] += misses[part][words[j + 1] >> place & 15][half] << 4;
                    memcpy(table, both, sizeof both);
                }
}

/* All sums of four elements: with signs, or (ternary) of those chosen. */
static void sums_portable(const qsdk_linear_binary *layer, const float *x, float *table)
{
    const size_t fours = qsdk_binary_words_portable(layer) * 16;
    for (size_t q = 0; q < fours; q++, table += 16) {
        float four[4] = {0}, pair[2][4];
        for (size_t i = 0; i < 4 && 4 * q + i < layer->length; i++)
            four[i] = x[4 * q + i];
        for (int p = 0; p < 2; p++) {
            const float a = four[2 * p], b = four[2 * p + 1];
            const float not_a = layer->parts == 1 ? -a : 0, not_b = layer->parts == 1 ? -b : 0;
            pair[p][0] = not_a + not_b;
            pair[p][1] = a + not_b;
            pair[p][2] = not_a + b;
            pair[p][3] = a + b;
        }
        for (int m = 0; m < 16; m++)
            table[m] = pair[0][m & 3] + pair[1][m >> 2];
    }
}

static size_t words_bytes_portable(const qsdk_linear_binary *layer)
{
    return (qsdk_binary_words_portable(layer) + 1) * (size_t)layer->bits * 8;
}

size_t qsdk_binary_input_bytes_portable(const qsdk_linear_binary *layer)
{
    const size_t fours = qsdk_binary_words_portable(layer) * 16;
    size_t bytes = words_bytes_portable(layer);
    if (layer->bits == 0)
        bytes = fours * 16 * sizeof(float);
    else if (layer->set->lane_bytes == 1)
        bytes = fours * 16 * (size_t)((layer->bits + 1) / 2 * layer->parts);
    return (bytes + 63) / 64 * 64;
}

/* words: where they are not the input, as many bytes as they take. 0 where the row is not finite. */
int qsdk_binary_input_portable(const qsdk_linear_binary *layer, const float *x, float *beta,
                               void *input, uint64_t *words)
{
    const int bits = layer->bits;
    if (bits == 0) {
        sums_portable(layer, x, input);
        return 1;
    }
    const qsdk_sign_how how = {
        .bits = bits, .start = QSDK_SIGN_GREEDY, .nearest = 1, .cycles = layer->cycles};
    const int as_tables = layer->set->lane_bytes == 1;
    if (!qsdk_sign_codes_row_portable(layer->set->coder, x, layer->length, &how, beta,
                                      as_tables ? words : input, (size_t)bits, 1))
        return 0;
    if (as_tables)
        tables_portable(layer, words, input);
    return 1;
}

size_t qsdk_binary_record_bytes_portable(const qsdk_linear_binary *layer)
{
    return (qsdk_binary_words_portable(layer) * sizeof(uint64_t) + sizeof(float)) *
           (size_t)layer->bits;
}

/* The same of a record, which may begin anywhere. */
int qsdk_binary_record_portable(const qsdk_linear_binary *layer, const char *record, float *beta,
                                void *input, uint64_t *words)
{
    const size_t bits = (size_t)layer->bits, count = qsdk_binary_words_portable(layer);
    const int as_tables = layer->set->lane_bytes == 1;
    uint64_t *to = as_tables ? words : input;
    memcpy(beta, record, bits * sizeof *beta);
    for (size_t i = 0; i < bits; i++)
        if (!(beta[i] - beta[i] == 0))
            return 0;
    memset(to, 0, words_bytes_portable(layer));
    memcpy(to, record + bits * sizeof *beta, count * bits * sizeof *to);
    for (size_t i = 0; i < bits && layer->length % 64; i++)
        to[(count - 1) * bits + i] &= qsdk_sign_valid_portable(layer->length % 64);
    if (as_tables)
        tables_portable(layer, to, input);
    return 1;
}
