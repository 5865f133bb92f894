/* native/linear_binary/amx.c on any CPU: its tiles modelled, its vectors left to the compiler, and
 * the functions of AVX-512 that it calls told here once more, bit by bit. */
#ifndef LINEAR_BINARY_AMX_H
#define LINEAR_BINARY_AMX_H

#include "amx_model.h"
#include "avx512.h"

static void model_digits(const uint64_t *words, int parts, size_t count, int8_t *tiles);
static void model_signs(const uint64_t *words, int bits, size_t length, int8_t *tiles);
static const struct qsdk_linear_binary_set model_popcount;
extern const struct qsdk_linear_binary_set modelled_amx;

#define target(sets) unused
#define qsdk_linear_binary_amx modelled_amx
#define qsdk_linear_binary_avx512vpopcntdq model_popcount
#define qsdk_binary_digits_avx512 model_digits
#define qsdk_binary_signs_avx512 model_signs
#include "../../../native/linear_binary/amx.c"
#undef target
#undef qsdk_linear_binary_amx
#undef qsdk_linear_binary_avx512vpopcntdq

/* The word of row r of 32: every sixteen lie in the order 0, 2, .. 14, 1, 3, .. 15. */
static uint64_t model_word(const uint64_t *words, size_t r)
{
    return words[r / 16 * 16 + r % 2 * 8 + r % 16 / 2];
}

static int model_digit(const uint64_t *words, int parts, size_t r, size_t place)
{
    const int plus = (int)(model_word(words, r) >> place & 1);
    if (parts == 1)
        return plus ? 1 : -1;
    return plus - (int)(model_word(words + ROWS, r) >> place & 1);
}

static void model_digits(const uint64_t *words, int parts, size_t count, int8_t *tiles)
{
    for (size_t word = 0; word < count; word++, words += parts * ROWS)
        for (size_t half = 0; half < 2; half++)
            for (size_t place = 0; place < 64; place += 4)
                for (size_t r = 0; r < 16; r++)
                    for (size_t i = 0; i < 4; i++)
                        *tiles++ = (int8_t)model_digit(words, parts, 16 * half + r, place + i);
}

static void model_signs(const uint64_t *words, int bits, size_t length, int8_t *tiles)
{
    for (size_t k = 0; k < (length + 63) / 64 * 64; k++)
        for (size_t j = 0; j < (size_t)bits; j++) {
            const int plus = words[k / 64 * (size_t)bits + j] >> k % 64 & 1;
            tiles[(k / 64 * (size_t)bits + j) * 1024 + k % 64] =
                (int8_t)(k >= length ? 0 : plus ? 1 : -1);
        }
}

static float model_row(const qsdk_linear_binary *layer, size_t n, const uint64_t *x,
                       const float *beta)
{
    const size_t words = qsdk_binary_words_portable(layer), planes = (size_t)layer->planes;
    const size_t groups = qsdk_binary_groups_portable(layer), bits = (size_t)layer->bits;
    const size_t chunk = (size_t)layer->parts * ROWS, length = 64 * layer->group_words;
    float sum = 0;
    for (size_t g = 0; g < groups; g++) {
        float part = 0;
        for (size_t i = 0; i < planes; i++) {
            const uint64_t *weights = (const uint64_t *)(const void *)layer->weights;
            const uint64_t *w = weights + (n / ROWS * planes + i) * words * chunk;
            float t = 0;
            for (size_t j = 0; j < bits; j++) {
                int dot = 0;
                for (size_t k = g * length; k < (g + 1) * length && k < layer->length; k++) {
                    const int digit =
                        model_digit(w + k / 64 * chunk, layer->parts, n % ROWS, k % 64);
                    dot += x[k / 64 * bits + j] >> k % 64 & 1 ? digit : -digit;
                }
                t += beta[j] * (float)dot;
            }
            const size_t at = ((n / ROWS * groups + g) * planes + i) * ROWS + n % ROWS;
            part += layer->alpha[at] * t;
        }
        sum += part;
    }
    return sum;
}

static void model_rows(const qsdk_linear_binary *layer, size_t first, size_t count,
                       const void *input, const float *beta, float *y)
{
    const size_t end = (first + count) * ROWS;
    for (size_t n = first * ROWS; n < end && n < layer->rows; n++)
        y[n] = model_row(layer, n, input, beta);
}

static const struct qsdk_linear_binary_set model_popcount = {.rows = model_rows};

/* The set with those functions of AVX-512 that it only names replaced by portable ones. */
static inline const struct qsdk_linear_binary_set *model_set(void)
{
    static struct qsdk_linear_binary_set set;
    const struct qsdk_linear_binary_set *portable = &qsdk_linear_binary_portable;
    set = modelled_amx;
    set.name = "amx modelled";
    set.coder = portable->coder;
    set.float_block_rows = portable->float_block_rows;
    set.float_rows = portable->float_rows;
    return &set;
}

#endif
