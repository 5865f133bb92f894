/* AMX: digits of the weight and signs of the input as bytes, 16 rows of input by 32 of the weight
 * by 64 places a step, which makes 2 x 2 tiles of two planes of the input: 4 tdpbssd of 16384
 * products for 4 loads of 1 KB. Limited by these and, with few rows of input, by expanding bits to
 * bytes; the bytes of DEPTH words are 16 KB, so that they stay in L1. Integers are exact, places
 * behind the last are 0 in the input: the tiles give the dot products of linear_binary.h. */
#include "avx512.h"

#ifdef QSDK_LINEAR_BINARY_AMX
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,amx-tile,amx-int8")))
#define INLINE static inline __attribute__((always_inline)) TARGET

enum { ROWS = 32, HIGH = QSDK_BINARY_TILE_ROWS, MOST = QSDK_BINARY_TILES * HIGH, DEPTH = 8 };
enum { STRIPS = QSDK_BINARY_TILES * QSDK_BINARY_BITS };

struct tiles_amx { /* what ldtilecfg reads */
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

/* A strip: one plane of 16 rows of the input; its dot products with the rows of a block. */
typedef int32_t strip_amx[HIGH][ROWS];

INLINE void configure_amx(void)
{
    struct tiles_amx tiles = {.palette = 1};
    for (int t = 0; t < 8; t++) {
        tiles.bytes[t] = 64;
        tiles.rows[t] = 16;
    }
    __asm__ volatile("" : : "r"(&tiles) : "memory"); /* gcc 12 drops these stores without it */
    _tile_loadconfig(&tiles);
}

/* Adds the dot products of some words to one strip or two; `fresh`: they start at 0. Tiles 0..3 are
 * accumulators, 4 and 5 signs of the two strips, 6 and 7 digits. */
INLINE void square_amx(const int8_t *upper, const int8_t *lower, size_t step, const int8_t *digits,
                       size_t words, int fresh, int two, strip_amx *strip)
{
    const size_t pitch = sizeof **strip;
    if (fresh) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    } else {
        _tile_loadd(0, strip[0][0], pitch);
        _tile_loadd(1, strip[0][0] + 16, pitch);
        if (two) {
            _tile_loadd(2, strip[1][0], pitch);
            _tile_loadd(3, strip[1][0] + 16, pitch);
        }
    }
    for (size_t word = 0; word < words; word++, upper += step, lower += step) {
        _tile_loadd(4, upper, 64);
        _tile_loadd(6, digits, 64);
        _tile_dpbssd(0, 4, 6);
        _tile_loadd(7, digits + QSDK_BINARY_TILE, 64);
        _tile_dpbssd(1, 4, 7);
        if (two) {
            _tile_loadd(5, lower, 64);
            _tile_dpbssd(2, 5, 6);
            _tile_dpbssd(3, 5, 7);
        }
        digits += 2 * QSDK_BINARY_TILE;
    }
    _tile_stored(0, strip[0][0], pitch);
    _tile_stored(1, strip[0][0] + 16, pitch);
    if (two) {
        _tile_stored(2, strip[1][0], pitch);
        _tile_stored(3, strip[1][0] + 16, pitch);
    }
}

/* Dot products of words first .. last of one plane of a block, whose words are w. */
TARGET static void dots_amx(const qsdk_linear_binary *layer, const uint64_t *w, size_t first,
                            size_t last, const int8_t *signs, size_t strips, strip_amx *dots)
{
    const size_t bits = (size_t)layer->bits, step = bits * QSDK_BINARY_TILE;
    const size_t tile = qsdk_binary_words_portable(layer) * step;
    _Alignas(64) int8_t digits[DEPTH * 2 * QSDK_BINARY_TILE];
    for (size_t word = first; word < last; word += DEPTH) {
        const size_t here = last - word < DEPTH ? last - word : DEPTH;
        qsdk_binary_digits_avx512(w + word * (size_t)layer->parts * ROWS, layer->parts, here,
                                  digits);
        __asm__ volatile("" : : "r"(digits) : "memory"); /* loading tiles reads them */
        for (size_t s = 0; s < strips; s += 2) {
            const size_t next = s + 1 < strips ? s + 1 : s;
            const int8_t *from = signs + word * step;
            const int8_t *upper = from + s / bits * tile + s % bits * QSDK_BINARY_TILE;
            const int8_t *lower = from + next / bits * tile + next % bits * QSDK_BINARY_TILE;
            if (next > s)
                square_amx(upper, lower, step, digits, here, word == first, 1, dots + s);
            else
                square_amx(upper, lower, step, digits, here, word == first, 0, dots + s);
        }
    }
}

/* Adds alpha times t of one row of input to part; dots: its first strip. */
TARGET static void scale_amx(const float *alpha, const float *beta, int bits, const strip_amx *dots,
                             size_t row, float *part)
{
    float t[ROWS] = {0};
    for (int j = 0; j < bits; j++)
        for (int n = 0; n < ROWS; n++)
            t[n] += beta[j] * (float)dots[j][row][n];
    for (int n = 0; n < ROWS; n++)
        part[n] += alpha[n] * t[n];
}

INLINE const struct qsdk_binary_row *row_amx(const struct qsdk_binary_row *rows, size_t apart,
                                             size_t m)
{
    return (const struct qsdk_binary_row *)(const void *)((const char *)rows + m * apart);
}

TARGET static void block_amx(const qsdk_linear_binary *layer, size_t block, const int8_t *signs,
                             const struct qsdk_binary_row *rows, size_t apart, size_t tiles,
                             float sum[][ROWS])
{
    const size_t words = qsdk_binary_words_portable(layer), planes = (size_t)layer->planes;
    const size_t groups = qsdk_binary_groups_portable(layer), bits = (size_t)layer->bits;
    const uint64_t *weights = (const uint64_t *)(const void *)layer->weights;
    const size_t chunk = (size_t)layer->parts * ROWS;
    _Alignas(64) strip_amx dots[STRIPS];
    float part[MOST][ROWS];
    memset(sum, 0, tiles * HIGH * sizeof *sum);
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        memset(part, 0, tiles * HIGH * sizeof *part);
        for (size_t i = 0; i < planes; i++) {
            const uint64_t *w = weights + (block * planes + i) * words * chunk;
            const float *alpha = layer->alpha + ((block * groups + g) * planes + i) * ROWS;
            dots_amx(layer, w, first, last, signs, tiles * bits, dots);
            for (size_t m = 0; m < tiles * HIGH; m++) {
                const struct qsdk_binary_row *row = row_amx(rows, apart, m);
                if (row->finite)
                    scale_amx(alpha, row->beta, layer->bits, dots + m / HIGH * bits, m % HIGH,
                              part[m]);
            }
        }
        for (size_t m = 0; m < tiles * HIGH; m++)
            for (int n = 0; n < ROWS; n++)
                sum[m][n] += part[m][n];
    }
}

TARGET static void multiply_amx(const qsdk_linear_binary *layer, size_t first, size_t count,
                                const int8_t *signs, const struct qsdk_binary_row *rows,
                                size_t apart, size_t tiles, float *y)
{
    float sum[MOST][ROWS];
    configure_amx();
    for (size_t block = first; block < first + count; block++) {
        const size_t n = block * ROWS, here = layer->rows - n < ROWS ? layer->rows - n : ROWS;
        block_amx(layer, block, signs, rows, apart, tiles, sum);
        for (size_t m = 0; m < tiles * HIGH; m++)
            memcpy(y + m * layer->rows + n, sum[m], here * sizeof **sum);
    }
    _tile_release();
}

/* Rows of input that do not fill a tile: by counting bits. */
static void rows_amx(const qsdk_linear_binary *layer, size_t first, size_t count, const void *input,
                     const float *beta, float *y)
{
    qsdk_linear_binary_avx512vpopcntdq.rows(layer, first, count, input, beta, y);
}

const struct qsdk_linear_binary_set qsdk_linear_binary_amx = {
    .name = "amx",
    .lane_bytes = 8,
    .lanes = 2,
    .apart = 8,
    .block_rows = ROWS,
    .float_block_rows = QSDK_BINARY_FLOAT_ROWS_AVX512,
    .coder = &qsdk_sign_codes_avx512bw,
    .rows = rows_amx,
    .float_rows = qsdk_binary_float_rows_avx512,
    .signs = qsdk_binary_signs_avx512,
    .tiles = multiply_amx,
};

#endif
