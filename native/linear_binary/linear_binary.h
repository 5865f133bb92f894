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
 * The codes of a row of input are those of sign_codes.h: greedy start, nearest codes, so many cycles.
 * A row that has no codes has a result of NaN.
 */
#ifndef QSDK_LINEAR_BINARY_H
#define QSDK_LINEAR_BINARY_H

#include "sign_codes.h"

/* [cffi] */
struct qsdk_linear_binary_set;

/* rows, length   of the weight; length < 2^24
 * group_words    words of 64 places that share an alpha; at least 1, the last group may be shorter
 * planes, parts  of the weight; a plane has 1 part (bit 1: +1, bit 0: -1) or 2 (ternary: +1, -1)
 * bits, cycles   of the input; bits 0 for floats
 * coded          1: the input has its codes already, x is records and not floats
 * weights        as qsdk_linear_binary_pack leaves them
 * alpha          [block][group][plane][row of the block], 0 behind the last row
 * places         the same of ternary weights: how many digits are not 0
 * bias           [rows], or NULL
 * low, high      the clip; -inf and inf for none */
typedef struct {
    const struct qsdk_linear_binary_set *set;
    size_t rows, length, group_words;
    int32_t planes, parts, bits, cycles, coded;
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
void qsdk_linear_binary_pack(const qsdk_linear_binary *layer, const uint64_t *words,
                             uint8_t *packed);

/* Bytes of scratch of a call on so many rows of input. */
size_t qsdk_linear_binary_scratch(const qsdk_linear_binary *layer, size_t rows);

/* x: float, [rows][length], or records [rows], without space between or in them: float beta[bits],
 * uint64_t words[ceil(length / 64)][bits], bit k of a plane 1 for +1; places behind the length are
 * ignored, and a row with a beta that is not finite has a result of NaN.
 * y: float, [rows][rows of the weight]. A qsdk_run. */
void qsdk_linear_binary_run(const void *layer, const void *x, size_t rows, void *y, void *scratch,
                            int threads);
/* [/cffi] */

enum { QSDK_BINARY_BITS = 4 }; /* of the input */
enum { QSDK_BINARY_TILE_ROWS = 16, QSDK_BINARY_TILE = 1024, QSDK_BINARY_TILES = 4 };

/* A row of input in scratch: this, then what the set reads, then words where that is not them. */
struct qsdk_binary_row {
    float beta[QSDK_BINARY_BITS];
    int finite;
    char pad[64 - sizeof(float) * QSDK_BINARY_BITS - sizeof(int)];
};

/* What a set brings along. Layout of weights: [block][plane][chunk][part][row of the block], where a
 * chunk is `lane_bytes` bytes of a row's bits: 8, or 1. A set of 1-byte lanes is handed tables for
 * the input, others its words. Of every `lanes` * `apart` rows, row r lies at
 * r % lanes * apart + r / lanes.
 *
 * coder     of the input
 * rows      blocks first .. first + count of a layer for one row of binary input
 * float_rows  the same for floats, of which it gets tables
 *
 * Sets with tiles of 16 rows of input, of binary input only, else NULL:
 * signs     words of one row of input as bytes -1 and 1, 0 behind the last place: 64 places to every
 *           tile of [word][bits][16 rows][64], from the row's place in the first on
 * tiles     blocks first .. first + count for so many times 16 rows, QSDK_BINARY_TILES at most.
 *           rows lie `apart` bytes; y: that of the first. Rows not finite get any result. */
struct qsdk_linear_binary_set {
    const char *name;
    int lane_bytes, lanes, apart, block_rows;
    int float_block_rows; /* floats: lanes of 1 byte */
    const struct qsdk_sign_codes *coder;
    void (*rows)(const qsdk_linear_binary *layer, size_t first, size_t count, const void *input,
                 const float *beta, float *y);
    void (*float_rows)(const qsdk_linear_binary *layer, size_t first, size_t count,
                       const float *tables, float *y);
    void (*signs)(const uint64_t *words, int bits, size_t length, int8_t *tiles);
    void (*tiles)(const qsdk_linear_binary *layer, size_t first, size_t count, const int8_t *signs,
                  const struct qsdk_binary_row *rows, size_t apart, size_t tiles, float *y);
};

extern const struct qsdk_linear_binary_set qsdk_linear_binary_portable, qsdk_linear_binary_avx2,
    qsdk_linear_binary_avx512bw, qsdk_linear_binary_avx512vpopcntdq, qsdk_linear_binary_neon;
#if defined(__x86_64__) && defined(__GNUC__) && (__GNUC__ >= 11 || defined(__clang__))
#define QSDK_LINEAR_BINARY_AMX /* compilers that know it */
extern const struct qsdk_linear_binary_set qsdk_linear_binary_amx;
#endif

/* Shared by the sets, in portable C. */

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

/* Codes, betas and, for 1-byte lanes, tables of one row; input.c. */
size_t qsdk_binary_input_bytes_portable(const qsdk_linear_binary *layer);
int qsdk_binary_input_portable(const qsdk_linear_binary *layer, const float *x, float *beta,
                               void *input, uint64_t *words);
size_t qsdk_binary_record_bytes_portable(const qsdk_linear_binary *layer);
int qsdk_binary_record_portable(const qsdk_linear_binary *layer, const char *record, float *beta,
                                void *input, uint64_t *words);

/* Rows of a block of this layer, its blocks, and the bytes of one; pack.c. */
size_t qsdk_binary_block_portable(const qsdk_linear_binary *layer);
size_t qsdk_binary_blocks_portable(const qsdk_linear_binary *layer);
size_t qsdk_binary_block_bytes_portable(const qsdk_linear_binary *layer);

/* Floats in plain C, eight rows to a block; portable.c. */
void qsdk_binary_float_rows_portable(const qsdk_linear_binary *layer, size_t first, size_t count,
                                     const float *tables, float *y);

#endif
