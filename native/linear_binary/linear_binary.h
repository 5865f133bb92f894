/* linear on weights that are sums of scaled planes of digits: -1 and +1, or (ternary) also 0.
 *
 *   y[n] = sum over groups g, in order, of  sum over planes i, in order, of  alpha[n][g][i] * t
 *
 * and then + bias[n] and the clip, all in float32, each product and sum rounded, none fused.
 *
 * Binary input: x ~ sum over j of beta[j] * b_j, coded inside the call, one beta for the row.
 *   t = beta[0] * dot[0] + beta[1] * dot[1] + ...     from left to right
 *   dot[j] = places - 2 * misses                      an integer, exact in float32: K < 2^24
 * places are those of the group where the digit is not 0, misses those of them where it is not b_j.
 *
 * Float input (bits = 0):
 *   t = sum over fours q of the group, in order, of  (d0 x0 + d1 x1) + (d2 x2 + d3 x3)
 * with the digits d of the weight; ternary: the same for the digits that are +1, with 0 for the
 * others, minus the same for those that are -1. x is continued with zeros to whole fours.
 *
 * Coding a row of K floats. a = |x|; sums are float32 of 16 lanes, lane l over elements l, l + 16,
 * ..., then the upper half of the lanes is added to the lower until one is left.
 *   greedy:  S = sum a; beta[0] = S / K; r = |a - beta[0]|; beta[1] = sum r / K; r = |r - beta[1]| ...
 *   A row whose S is not finite has a result of NaN.
 *   levels:  betas sorted, largest first. The 2^(bits-1) sums beta[0] +- beta[1] +- ... from left to
 *            right, negated with all their signs where below 0, sorted upwards; equal ones stay in
 *            the order of their signs, read as binary digits. Thresholds: v / 2 + v' / 2 of
 *            neighbours. The code of a is that of level number #{thresholds <= a}, its signs turned
 *            around where x < 0.
 *   cycles:  levels; then betas of least squares for these codes: normal equations from counts and
 *            sums of the elements at or above each threshold, solved in double by elimination
 *            without pivoting; a pivot below 1/1024 (of integers: equal planes) leaves the betas.
 *            Their magnitudes, as floats, are the new betas.
 *   Last, the codes of the levels of the last betas.
 */
#ifndef QSDK_LINEAR_BINARY_H
#define QSDK_LINEAR_BINARY_H

#include "kernel.h"

/* [cffi] */
struct qsdk_linear_binary_set;

/* rows, length   of the weight; length < 2^24
 * group_words    words of 64 places that share an alpha; at least 1, the last group may be shorter
 * planes, parts  of the weight; a plane has 1 part (bit 1: +1, bit 0: -1) or 2 (ternary: +1, -1)
 * bits, cycles   of the input; bits 0 for floats
 * weights        as qsdk_linear_binary_pack leaves them
 * alpha          [block][group][plane][row of the block], 0 behind the last row
 * places         the same of ternary weights: how many digits are not 0
 * bias           [rows], or NULL
 * low, high      the clip; -inf and inf for none */
typedef struct {
    const struct qsdk_linear_binary_set *set;
    size_t rows, length, group_words;
    int32_t planes, parts, bits, cycles;
    const uint8_t *weights;
    const float *alpha;
    const int32_t *places;
    const float *bias;
    float low, high;
} qsdk_linear_binary;

/* The instruction set of this name; NULL where this build has none. */
const struct qsdk_linear_binary_set *qsdk_linear_binary_find(const char *set);

/* Rows of a block of this set's layout, for binary input or for floats. */
size_t qsdk_linear_binary_block_rows(const struct qsdk_linear_binary_set *set, int bits);

/* Bytes of the packed weights. */
size_t qsdk_linear_binary_packed(const qsdk_linear_binary *layer);

/* words: [part][plane][row][word], places behind the length 0. */
void qsdk_linear_binary_pack(const qsdk_linear_binary *layer, const uint64_t *words, uint8_t *packed);

/* Bytes of scratch of a call on so many rows of input. */
size_t qsdk_linear_binary_scratch(const qsdk_linear_binary *layer, size_t rows);

/* x: float, [rows][length]; y: float, [rows][rows of the weight]. A qsdk_run. */
void qsdk_linear_binary_run(const void *layer, const void *x, size_t rows, void *y, void *scratch,
                            int threads);
/* [/cffi] */

enum { QSDK_BINARY_BITS = 4, QSDK_BINARY_LEVELS = 8 };

/* Levels of a row as masks. Bit by bit, plane i is start[i], turned around by each threshold at or
 * below a that has flip[i] set, and once more where x < 0. */
struct qsdk_binary_levels {
    int planes, count; /* thresholds */
    float threshold[QSDK_BINARY_LEVELS - 1];
    uint64_t start[QSDK_BINARY_BITS], flip[QSDK_BINARY_BITS][QSDK_BINARY_LEVELS - 1];
};

/* What a set brings along. Layout of weights: [block][plane][chunk][part][row of the block], where a
 * chunk is `lane_bytes` bytes of a row's bits: 8, or 1. A set of 1-byte lanes is handed tables for
 * the input, others its words. With `interleaved`, every sixteen rows lie
 * in the order 0, 2, .. 14, 1, 3, .. 15.
 *
 * residual  sum of | ..| |x| - beta[0] | .. - beta[count - 1] |
 * above     for each threshold: sum and number of the |x| at or above it
 * code      planes of n elements: words[n / 64 + 1][planes], 0 behind the last element
 * rows      blocks first .. first + count of a layer for one row of binary input
 * float_rows  the same for floats, of which it gets tables */
struct qsdk_linear_binary_set {
    const char *name;
    int lane_bytes, interleaved, block_rows;
    int float_block_rows; /* floats: lanes of 1 byte */
    float (*residual)(const float *x, size_t n, const float *beta, int count);
    void (*above)(const float *x, size_t n, const float *threshold, int count, float *sum,
                  int64_t *number);
    void (*code)(const float *x, size_t n, const struct qsdk_binary_levels *levels, uint64_t *words);
    void (*rows)(const qsdk_linear_binary *layer, size_t first, size_t count, const void *input,
                 const float *beta, float *y);
    void (*float_rows)(const qsdk_linear_binary *layer, size_t first, size_t count,
                       const float *tables, float *y);
};

extern const struct qsdk_linear_binary_set qsdk_linear_binary_portable, qsdk_linear_binary_avx2,
    qsdk_linear_binary_avx512bw, qsdk_linear_binary_avx512vpopcntdq, qsdk_linear_binary_neon;

/* Shared by the sets, in portable C. */

#if defined(__clang__)
#define QSDK_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define QSDK_UNROLL _Pragma("GCC unroll 16")
#else
#define QSDK_UNROLL
#endif

static inline size_t qsdk_binary_words_portable(const qsdk_linear_binary *layer)
{
    return (layer->length + 63) / 64;
}

static inline size_t qsdk_binary_groups_portable(const qsdk_linear_binary *layer)
{
    return (qsdk_binary_words_portable(layer) + layer->group_words - 1) / layer->group_words;
}

/* Words first .. last of group g. */
static inline void qsdk_binary_group_portable(const qsdk_linear_binary *layer, size_t g,
                                              size_t *first, size_t *last)
{
    const size_t words = qsdk_binary_words_portable(layer), end = (g + 1) * layer->group_words;
    *first = g * layer->group_words;
    *last = end < words ? end : words;
}

/* Places of group g of binary weights: all of them. */
static inline int32_t qsdk_binary_places_portable(const qsdk_linear_binary *layer, size_t g)
{
    const size_t start = g * layer->group_words * 64, length = layer->group_words * 64;
    const size_t rest = layer->length - start;
    return (int32_t)(rest < length ? rest : length);
}

/* One element's |..| |x| - beta[0] |.. - beta[count - 1]|. */
static inline float qsdk_binary_residual_portable(float x, const float *beta, int count)
{
    float r = x < 0 ? -x : x;
    for (int i = 0; i < count; i++) {
        r -= beta[i];
        r = r < 0 ? -r : r;
    }
    return r;
}

/* 16 lanes to their sum. */
static inline float qsdk_binary_fold_portable(float *lane)
{
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* A word of each plane, from the words of the thresholds and of the signs; valid: places in use. */
static inline void qsdk_binary_planes_portable(const struct qsdk_binary_levels *levels,
                                               const uint64_t *above, uint64_t negative,
                                               uint64_t valid, uint64_t *words)
{
    for (int i = 0; i < levels->planes; i++) {
        uint64_t plane = levels->start[i] ^ negative;
        for (int j = 0; j < levels->count; j++)
            plane ^= above[j] & levels->flip[i][j];
        words[i] = plane & valid;
    }
}

/* The lowest n places of a word, n from 1 to 64. */
static inline uint64_t qsdk_binary_valid_portable(size_t n)
{
    return n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
}

/* Codes, betas and, for 1-byte lanes, tables of one row; input.c. */
size_t qsdk_binary_input_bytes_portable(const qsdk_linear_binary *layer);
int qsdk_binary_input_portable(const qsdk_linear_binary *layer, const float *x, float *beta,
                               void *input, uint64_t *words);

/* Floats in plain C, eight rows to a block; portable.c. */
void qsdk_binary_float_rows_portable(const qsdk_linear_binary *layer, size_t first, size_t count,
                                     const float *tables, float *y);

#endif
