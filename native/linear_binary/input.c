/* Coding one row of input, as the header says: passes over the row by the instruction set, and in
 * between the few numbers that decide on the next pass. Limited by the latency of those passes. */
#include "linear_binary.h"

#include <string.h>

/* Largest first; few, so by insertion, which keeps equal ones in order. */
static void sort_betas_portable(float *beta, int bits)
{
    for (int i = 1; i < bits; i++)
        for (int j = i; j > 0 && beta[j - 1] < beta[j]; j--) {
            const float larger = beta[j];
            beta[j] = beta[j - 1];
            beta[j - 1] = larger;
        }
}

struct code {
    float level;
    uint32_t signs; /* bit i: plane i is +1 */
};

/* The levels >= 0, upwards. */
static void levels_portable(const float *beta, int bits, struct code *code)
{
    for (uint32_t m = 0; m < 1u << (bits - 1); m++) {
        struct code new = {beta[0], 1};
        for (int i = 1; i < bits; i++) {
            const uint32_t plus = m >> (bits - 1 - i) & 1;
            new.level = plus ? new.level + beta[i] : new.level - beta[i];
            new.signs |= plus << i;
        }
        if (new.level < 0) {
            new.level = -new.level;
            new.signs ^= (1u << bits) - 1;
        }
        uint32_t place = m;
        for (; place > 0 && code[place - 1].level > new.level; place--)
            code[place] = code[place - 1];
        code[place] = new;
    }
}

static void masks_portable(const struct code *code, int bits, struct qsdk_binary_levels *levels)
{
    levels->planes = bits;
    levels->count = (1 << (bits - 1)) - 1;
    for (int i = 0; i < bits; i++)
        levels->start[i] = UINT64_C(0) - (code[0].signs >> i & 1);
    for (int j = 0; j < levels->count; j++) {
        levels->threshold[j] = 0.5f * code[j].level + 0.5f * code[j + 1].level;
        for (int i = 0; i < bits; i++)
            levels->flip[i][j] = UINT64_C(0) - ((code[j].signs ^ code[j + 1].signs) >> i & 1);
    }
}

/* Normal equations g beta = d, g symmetric; 0 where g is singular. */
static int solve_portable(double g[][QSDK_BINARY_BITS], double *d, int bits, double *beta)
{
    for (int j = 0; j < bits; j++) {
        if (g[j][j] < 1.0 / 1024)
            return 0;
        for (int i = j + 1; i < bits; i++) {
            const double factor = g[i][j] / g[j][j];
            for (int m = j + 1; m <= i; m++)
                g[i][m] -= factor * g[m][j];
            d[i] -= factor * d[j];
        }
    }
    for (int j = bits - 1; j >= 0; j--) {
        double sum = d[j];
        for (int i = j + 1; i < bits; i++)
            sum -= g[i][j] * beta[i];
        beta[j] = sum / g[j][j];
    }
    return 1;
}

/* Least squares for the codes of these levels. number and sum: of the elements from threshold j - 1
 * on; entry 0 is all of them, and one behind the last is 0. */
static void refine_portable(const struct code *code, int bits, const int64_t *number,
                            const float *sum, float *beta)
{
    double g[QSDK_BINARY_BITS][QSDK_BINARY_BITS] = {{0}}, d[QSDK_BINARY_BITS] = {0};
    double exact[QSDK_BINARY_BITS];
    for (int t = 0; t < 1 << (bits - 1); t++) {
        const double here = (double)(number[t] - number[t + 1]);
        const double part = (double)sum[t] - (double)sum[t + 1];
        for (int i = 0; i < bits; i++) {
            const int plus = code[t].signs >> i & 1;
            d[i] = plus ? d[i] + part : d[i] - part;
            for (int j = 0; j <= i; j++)
                g[i][j] += plus == (int)(code[t].signs >> j & 1) ? here : -here;
        }
    }
    if (!solve_portable(g, d, bits, exact))
        return;
    for (int i = 0; i < bits; i++)
        beta[i] = (float)(exact[i] < 0 ? -exact[i] : exact[i]);
}

/* Greedy betas; 0 where the row is not finite. */
static int start_portable(const qsdk_linear_binary *layer, const float *x, float *beta, float *sum)
{
    const size_t n = layer->length;
    const float count = n ? (float)n : 1.0f;
    *sum = layer->set->residual(x, n, beta, 0);
    if (!(*sum - *sum == 0))
        return 0;
    beta[0] = *sum / count;
    for (int i = 1; i < layer->bits; i++)
        beta[i] = layer->set->residual(x, n, beta, i) / count;
    return 1;
}

static void cycle_portable(const qsdk_linear_binary *layer, const float *x, float total,
                           const struct code *code, const struct qsdk_binary_levels *levels,
                           float *beta)
{
    const size_t n = layer->length;
    int64_t number[QSDK_BINARY_LEVELS + 1] = {(int64_t)n};
    float sum[QSDK_BINARY_LEVELS + 1] = {total};
    layer->set->above(x, n, levels->threshold, levels->count, sum + 1, number + 1);
    number[levels->count + 1] = 0;
    sum[levels->count + 1] = 0;
    refine_portable(code, layer->bits, number, sum, beta);
}

/* For every byte of places, its low four then its high, and every plane of the input: how many of
 * these places a digit of the weight misses, for each of the 16 weights that four bits can be.
 * Ternary: for the +1 among the digits, then for the -1. */
static void tables_portable(const qsdk_linear_binary *layer, const uint64_t *words, uint8_t *table)
{
    static const uint8_t ones[16] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
    uint8_t misses[3][16][16]; /* digits of 1 bit; +1 of ternary ones, -1 of them */
    for (int x = 0; x < 16; x++)
        for (int w = 0; w < 16; w++) {
            misses[0][x][w] = ones[x ^ w];
            misses[1][x][w] = ones[w & ~x];
            misses[2][x][w] = ones[w & x];
        }
    const size_t count = qsdk_binary_words_portable(layer);
    const int bits = layer->bits, parts = layer->parts;
    for (size_t word = 0; word < count; word++)
        for (int place = 0; place < 64; place += 4)
            for (int part = 0; part < parts; part++)
                for (int j = 0; j < bits; j++, table += 16)
                    memcpy(table,
                           misses[parts == 1 ? 0 : 1 + part]
                                 [words[word * (size_t)bits + (size_t)j] >> place & 15],
                           16);
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
        bytes = fours * 16 * (size_t)(layer->bits * layer->parts);
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
    struct code code[QSDK_BINARY_LEVELS];
    struct qsdk_binary_levels levels;
    float sum;
    if (!start_portable(layer, x, beta, &sum))
        return 0;
    for (int cycle = 0;; cycle++) {
        sort_betas_portable(beta, bits);
        levels_portable(beta, bits, code);
        masks_portable(code, bits, &levels);
        if (cycle == layer->cycles || bits == 1) /* one plane: the mean is least squares */
            break;
        cycle_portable(layer, x, sum, code, &levels, beta);
    }
    const int as_tables = layer->set->lane_bytes == 1;
    layer->set->code(x, layer->length, &levels, as_tables ? words : input);
    if (as_tables)
        tables_portable(layer, words, input);
    return 1;
}
