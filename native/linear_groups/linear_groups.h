/* y = x @ w.T + bias for weights of 2 to 8 bits whose neighbours along a row share a scale.
 *
 * The weight is (columns, length): a row of it gives a column of y. Its value at (n, k) is
 * scale[g, n] * (u[n, k] - zero[g, n]), with unsigned u and zero, in group g = k / group.
 *
 * qsdk_linear_groups_run codes the input inside the call, to s8, one scale per row and group:
 *   scale_x = clamp(max |x| / 127), 1 if all are 0        in float64, then rounded to float32
 *   code    = clamp(rne(x / scale_x), -128, 127)           one IEEE division in float32
 *   acc     = sum over the group of code * (u - zero)      exact in int32: the caller has checked
 *   y       = y + float32(acc) * (scale_x * scale)         float32, groups in order, y from 0
 *   y       = clip(y + bias)                               never a fused multiply-add
 * A row with NaN or infinity has scales of NaN, so that its y is NaN. All sets give equal bits.
 *
 * qsdk_linear_groups_run_floats keeps the input: y = sum over groups of
 *   (sum over the group of x * (u - zero)) * scale         float32, products may be fused
 * in an order that each set chooses. With n = group + groups + 3 roundings in the longest path,
 *   |y - exact| <= 1.01 n 2^-24 (sum of |x w| + |bias|)
 * while nothing overflows or underflows; sums of x * (u - zero) must stay finite.
 *
 * Memory order of u. A weight stands in blocks of 16 columns; a block is a sequence of units of
 * 64 bytes, one behind the other as k grows. A code takes `width` bits: 2, 4 or 8. A unit holds
 * 32 / width neighbours in k of each column, and byte 4 n + j of it holds, from bit width * p,
 * u[n, k + 4 p + j]. So a unit shifted by width * p and masked is an operand of vpdpbusd, and the
 * input is four bytes, the same for all columns. The scales and zeros of a block are
 * [groups][16]. Columns that fill up the last block, and k up to a whole unit, are 0. */
#ifndef QSDK_LINEAR_GROUPS_H
#define QSDK_LINEAR_GROUPS_H

#include <stddef.h>
#include <stdint.h>

/* [cffi] */
struct qsdk_linear_groups_set;

/* A prepared layer. group is a multiple of 16; length need not be one. */
struct qsdk_linear_groups {
    const struct qsdk_linear_groups_set *set;
    size_t columns, length, group, groups;
    int32_t width;
    int32_t zero;         /* of all groups where zeros is NULL */
    const uint8_t *codes; /* as qsdk_linear_groups_pack writes them */
    const float *scale;   /* [blocks][groups][16] */
    const uint8_t *zeros; /* [blocks][groups][16] */
    const float *bias;    /* [blocks][16] */
    float low, high;
};

/* Bytes of packed codes. */
size_t qsdk_linear_groups_packed(size_t columns, size_t length, int width);

/* codes: u (columns, length), a byte each; packed: aligned to 64. */
void qsdk_linear_groups_pack(const uint8_t *codes, size_t columns, size_t length, int width,
                             uint8_t *packed);

/* Both of the type qsdk_run: x is float32 (rows, length), y float32 (rows, columns). */
void qsdk_linear_groups_run(const void *layer, const void *x, size_t rows, void *y, void *scratch,
                            int threads);
void qsdk_linear_groups_run_floats(const void *layer, const void *x, size_t rows, void *y,
                                   void *scratch, int threads);

/* Bytes of scratch for a call of either, on so many rows. */
size_t qsdk_linear_groups_scratch(const struct qsdk_linear_groups *layer, size_t rows);

/* "portable", "avx2", ...; NULL where this build has none of that name. */
const struct qsdk_linear_groups_set *qsdk_linear_groups_find(const char *set);
/* [/cffi] */

enum { QSDK_COLUMNS = 16, QSDK_UNIT = 64 };

/* Which sets this compiler can make beside those that its platform always has. */
#if defined(__x86_64__) && ((defined(__clang__) && __clang_major__ >= 12) || __GNUC__ >= 11)
#define QSDK_HAS_AVXVNNI 1
#else
#define QSDK_HAS_AVXVNNI 0
#endif
#if defined(__aarch64__) && (!defined(__clang__) || __clang_major__ >= 16)
#define QSDK_HAS_DOTPROD 1
#else
#define QSDK_HAS_DOTPROD 0
#endif

/* A few rows of the input, interleaved so that one stream of memory serves them all. */
struct qsdk_linear_groups_tile {
    size_t rows;          /* 1, 2, 4 or 8 */
    const void *x;        /* codes: s8 [k / 4][rows][4], whatever from length to a whole unit;
                             floats: [k][rows], 0 from there */
    const float *scale;   /* [groups][rows] */
    const int32_t *start; /* [groups][rows]: -sum of codes; times the zero, where all have one */
};

/* y: the tile's first row, the block's first column; writes those columns that the layer has. */
typedef void qsdk_linear_groups_product(const struct qsdk_linear_groups *layer, size_t block,
                                        const struct qsdk_linear_groups_tile *tile, float *y);

struct qsdk_linear_groups_set {
    const char *name;
    size_t rows; /* the most that a tile may have: 1, 2, 4 or 8 */
    /* The largest |x|, as the bits of the float: 0x7f800000 and above for infinity and NaN. */
    uint32_t (*largest)(const float *x, size_t n);
    /* Codes of finite x; returns their sum. */
    int32_t (*code)(const float *x, size_t n, float scale, int8_t *codes);
    qsdk_linear_groups_product *codes, *floats;
};

extern const struct qsdk_linear_groups_set qsdk_linear_groups_portable, qsdk_linear_groups_avx2,
    qsdk_linear_groups_avxvnni, qsdk_linear_groups_avx512vnni, qsdk_linear_groups_neon,
    qsdk_linear_groups_dotprod;

/* k in a unit. */
static inline size_t qsdk_linear_groups_unit_portable(int width)
{
    return 32u / (unsigned)width;
}

static inline size_t qsdk_linear_groups_units_portable(size_t length, int width)
{
    const size_t unit = qsdk_linear_groups_unit_portable(width);
    return (length + unit - 1) / unit;
}

/* Units of a group, and of the last one, which may be shorter. Divides: not for an inner loop. */
struct qsdk_linear_groups_units {
    size_t whole, last;
};

static inline struct qsdk_linear_groups_units
qsdk_linear_groups_in_portable(const struct qsdk_linear_groups *layer)
{
    const size_t whole = qsdk_linear_groups_units_portable(layer->group, layer->width);
    const size_t all = qsdk_linear_groups_units_portable(layer->length, layer->width);
    return (struct qsdk_linear_groups_units){whole, all - (layer->groups - 1) * whole};
}

static inline const uint8_t *qsdk_linear_groups_block_portable(
    const struct qsdk_linear_groups *layer, size_t block)
{
    const size_t units = qsdk_linear_groups_units_portable(layer->length, layer->width);
    return layer->codes + block * units * QSDK_UNIT;
}

/* How many columns of a block the layer has. */
static inline size_t qsdk_linear_groups_columns_portable(const struct qsdk_linear_groups *layer,
                                                         size_t block)
{
    const size_t left = layer->columns - block * QSDK_COLUMNS;
    return left < QSDK_COLUMNS ? left : QSDK_COLUMNS;
}

#endif
