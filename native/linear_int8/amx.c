/* AMX: 2 x 2 tiles, 32 rows by 32 outputs, 4 tdpbusd of 16384 products for 4 loads of 1 KB; up to 16
 * rows take 1 x 4 tiles instead. Loading tiles from L1 limits. Coding and results are AVX-512. */
#include "linear_int8_set.h"

#ifdef QSDK_LINEAR_INT8_NEW_X86
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx512.h"
#include "linear_int8_table.h"

#define SET(name) name##_amx
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,amx-tile,amx-int8")))
#define INLINE static inline __attribute__((always_inline)) TARGET
#define ROWS 32

struct tiles_amx { /* what ldtilecfg reads */
    uint8_t palette, start_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
};

/* Tiles 0..3 are accumulators, 4 and 5 codes (upper and lower rows), 6 and 7 weights. */
INLINE void configure_amx(int upper, int lower)
{
    struct tiles_amx tiles = {.palette = 1};
    const int rows[8] = {upper, upper, lower ? lower : upper, lower ? lower : upper,
                         upper, lower ? lower : upper, 16, 16};
    for (int t = 0; t < 8; t++) {
        tiles.bytes[t] = 64;
        tiles.rows[t] = (uint8_t)rows[t];
    }
    __asm__ volatile("" : : "r"(&tiles) : "memory"); /* gcc 12 drops these stores without it */
    _tile_loadconfig(&tiles);
}

/* All rows by two blocks of outputs. */
INLINE void square_amx(const struct qsdk_linear_int8_block *o, int upper, int lower, int b, int two,
                       int32_t *tile, size_t pitch)
{
    const uint8_t *w = o->weights + (size_t)b * o->apart, *a = o->codes;
    const uint8_t *low = a + (size_t)upper * o->stride;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t q = 0; q < o->quads; q += 16, a += 64, low += 64, w += 1024) {
        _tile_loadd(4, a, o->stride);
        _tile_loadd(6, w, 64);
        _tile_dpbusd(0, 4, 6);
        if (two) {
            _tile_loadd(7, w + o->apart, 64);
            _tile_dpbusd(1, 4, 7);
        }
        if (lower) {
            _tile_loadd(5, low, o->stride);
            _tile_dpbusd(2, 5, 6);
            if (two)
                _tile_dpbusd(3, 5, 7);
        }
    }
    _tile_stored(0, tile, pitch);
    if (two)
        _tile_stored(1, tile + 16, pitch);
    if (lower)
        _tile_stored(2, tile + (size_t)upper * pitch / 4, pitch);
    if (lower && two)
        _tile_stored(3, tile + (size_t)upper * pitch / 4 + 16, pitch);
}

/* Up to 16 rows by four blocks: codes are loaded once, weights pass once. */
INLINE void wide_amx(const struct qsdk_linear_int8_block *o, int32_t *tile, size_t pitch)
{
    enum { AHEAD = 2048 }; /* of each of the four streams: 8 KB in all */
    const uint8_t *w = o->weights, *a = o->codes;
    const size_t apart = o->apart;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (size_t q = 0; q < o->quads; q += 16, a += 64, w += 1024) {
        for (size_t line = 0; line < 1024; line += 64)
            for (size_t b = 0; b < 4; b++)
                __builtin_prefetch(w + b * apart + line + AHEAD);
        _tile_loadd(4, a, o->stride);
        _tile_loadd(6, w, 64);
        _tile_dpbusd(0, 4, 6);
        _tile_loadd(7, w + apart, 64);
        _tile_dpbusd(1, 4, 7);
        _tile_loadd(6, w + 2 * apart, 64);
        _tile_dpbusd(2, 4, 6);
        _tile_loadd(7, w + 3 * apart, 64);
        _tile_dpbusd(3, 4, 7);
    }
    _tile_stored(0, tile, pitch);
    _tile_stored(1, tile + 16, pitch);
    _tile_stored(2, tile + 32, pitch);
    _tile_stored(3, tile + 48, pitch);
}

TARGET static void add_start_amx(const struct qsdk_linear_int8_block *o, int rows, int blocks)
{
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++) {
            int32_t *acc = o->tile + 16 * (r * blocks + b);
            store_ints_avx512(acc, add_avx512(load_ints_avx512(acc),
                                              load_ints_avx512(o->start + 16 * b)));
        }
}

TARGET static void multiply_amx(const struct qsdk_linear_int8_block *o, int rows, int blocks)
{
    const size_t pitch = (size_t)blocks * 64;
    const int upper = rows < 16 ? rows : 16, lower = rows - upper;
    if (rows == 1) { /* bandwidth limits: one stream and a vector are enough */
        qsdk_linear_int8_avx512vnni.multiply(o, rows, blocks);
        return;
    }
    if (lower == 0 && blocks == 4) {
        configure_amx(upper, upper); /* all accumulators of one height */
        wide_amx(o, o->tile, pitch);
    } else {
        configure_amx(upper, lower);
        for (int b = 0; b < blocks; b += 2)
            square_amx(o, upper, lower, b, b + 1 < blocks, o->tile + 16 * b, pitch);
    }
    _tile_release();
    add_start_amx(o, rows, blocks);
}

TABLE(amx, ANY, 0, 64, 1000);
#endif
