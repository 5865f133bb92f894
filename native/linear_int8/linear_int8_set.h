/* What an instruction set brings: the table that run.c calls. Every entry equals that of portable.c,
 * where its meaning stands in plain C. */
#ifndef QSDK_LINEAR_INT8_SET_H
#define QSDK_LINEAR_INT8_SET_H

#include "linear_int8.h"

#include <string.h>

enum { QSDK_LINEAR_INT8_MOST_ROWS = 32, QSDK_LINEAR_INT8_MOST_BLOCKS = 4 };

/* One block of a product: `rows` rows of codes times `blocks` blocks of 16 outputs.
 *
 * codes, stride    bytes from row to row; 4 * quads codes of each are read
 * weights, apart   the first block, and bytes from block to block
 * start            16 * blocks integers
 * tile             [rows][16 * blocks] accumulators, written */
struct qsdk_linear_int8_block {
    const uint8_t *codes;
    size_t stride;
    const uint8_t *weights;
    size_t apart, quads;
    const int32_t *start;
    int32_t *tile;
};

/* What a row of codes stands for: scale, its zero_point as stored, sum of (code - zero_point). */
struct qsdk_linear_int8_row {
    float scale;
    int32_t zero, steps;
};

/* Accumulators of a product on their way to results, of outputs [first, first + count).
 *
 * acc, pitch   [rows][pitch], the pitch a multiple of 16
 * row          [rows]
 * y            the result of the first row; the next is `outputs` of the layer further */
struct qsdk_linear_int8_tile {
    size_t first, count, rows, pitch;
    int32_t *acc;
    const struct qsdk_linear_int8_row *row;
    uint8_t *y;
};

/* Which weights a product is exact for: two products are added in 16 bits by some. */
enum qsdk_linear_int8_room {
    QSDK_LINEAR_INT8_ANY,
    QSDK_LINEAR_INT8_PAIRS,  /* with bytes 0..255 on neighbours k, k + 1 (k even): vpmaddubsw */
    QSDK_LINEAR_INT8_NARROW, /* with bytes -128..127 on any two: none is -128 */
};

struct qsdk_linear_int8_set {
    const char *name;
    enum qsdk_linear_int8_room room;
    int is_signed; /* codes are stored as int8, else as uint8 */
    int rows, blocks; /* of a product, at most */
    int step;         /* inputs that the product takes at once: rows of codes are read so far */
    int macs;         /* multiplications per nanosecond, about: how much work wants threads */

    void (*multiply)(const struct qsdk_linear_int8_block *block, int rows, int blocks);

    /* The largest magnitude as bits of a float, which above those of infinity are NaN. */
    uint32_t (*size)(const float *x, size_t n);
    /* The least and the largest of finite values and 0. */
    void (*range)(const float *x, size_t n, float *low, float *high);
    /* out[i] = rne(clip(x / scale, low, high)) + zero, which a byte of the set's sign holds; writes
     * up to 63 bytes more. */
    void (*code)(const float *x, size_t n, float scale, int low, int high, int zero, uint8_t *out);
    /* Makes the first n codes of a row numbers of 16 bits, in place: of every four the even ones, then
     * the odd ones. May touch up to 15 codes more. NULL: the product takes bytes. */
    void (*widen)(uint8_t *codes, size_t n);
    /* acc -= row zero * sums + row steps * zeros, of whole blocks */
    void (*correct)(const struct qsdk_linear_int8 *layer, const struct qsdk_linear_int8_tile *tile);
    /* Results; acc is read in whole blocks. */
    void (*to_float)(const struct qsdk_linear_int8 *layer, const struct qsdk_linear_int8_tile *tile);
    void (*to_codes)(const struct qsdk_linear_int8 *layer, const struct qsdk_linear_int8_tile *tile);
};

extern const struct qsdk_linear_int8_set qsdk_linear_int8_portable;
#if defined(__x86_64__) && defined(__GNUC__)
extern const struct qsdk_linear_int8_set qsdk_linear_int8_avx2;
extern const struct qsdk_linear_int8_set qsdk_linear_int8_avx2_pairs;
extern const struct qsdk_linear_int8_set qsdk_linear_int8_avx512bw;
extern const struct qsdk_linear_int8_set qsdk_linear_int8_avx512bw_pairs;
extern const struct qsdk_linear_int8_set qsdk_linear_int8_avx512vnni;
#if __GNUC__ >= 11 || defined(__clang__)
#define QSDK_LINEAR_INT8_NEW_X86 /* compilers that know AVX-VNNI and AMX */
extern const struct qsdk_linear_int8_set qsdk_linear_int8_avxvnni;
extern const struct qsdk_linear_int8_set qsdk_linear_int8_amx;
#endif
#elif defined(__aarch64__) && defined(__GNUC__)
extern const struct qsdk_linear_int8_set qsdk_linear_int8_neon;
extern const struct qsdk_linear_int8_set qsdk_linear_int8_neon_pairs;
#if !defined(__clang__) || __clang_major__ >= 16
#define QSDK_LINEAR_INT8_NEW_ARM /* compilers that take these instructions function by function */
extern const struct qsdk_linear_int8_set qsdk_linear_int8_dotprod;
extern const struct qsdk_linear_int8_set qsdk_linear_int8_i8mm;
#endif
#endif

#endif
