/* One iteration: eight channels of 64 outputs against a byte of each column. Lanes are outputs: each
 * four bits of an output's weights choose, by one shuffle, how many of them the image misses, out of
 * 16 numbers that four bits of the image choose. So there is no xor, and counting costs nothing.
 * Limited by shuffles and additions, two of each for 256 places; columns share the steps that split
 * the bytes of weights. */
#include "conv_binary_tile.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))

enum { ROWS = 64, VECTORS = ROWS / 32, FLUSH = 31 }; /* 31 bytes add at most 31 * 8 to a byte */

#define ONES(v) (((v) & 1) + ((v) >> 1 & 1) + ((v) >> 2 & 1) + ((v) >> 3 & 1))
#define EACH(x, w) ONES((x) ^ (w)), ONES((x) ^ ((w) + 1)), ONES((x) ^ ((w) + 2)), ONES((x) ^ ((w) + 3))
#define OF(x) {EACH(x, 0), EACH(x, 4), EACH(x, 8), EACH(x, 12)}

/* For four bits of the image: how many of them each four bits of the weight miss. */
static const _Alignas(64) uint8_t misses_of[16][16] = {
    OF(0), OF(1), OF(2),  OF(3),  OF(4),  OF(5),  OF(6),  OF(7),
    OF(8), OF(9), OF(10), OF(11), OF(12), OF(13), OF(14), OF(15),
};

/* at: 16 times the four bits */
INLINE __m256i table_avx2(size_t at)
{
    const uint8_t *table = misses_of[0] + at;
    return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(const void *)table));
}

/* Adds some bytes of places to misses in bytes. */
INLINE void bytes_avx2(const uint8_t *w, const uint8_t *const *x, size_t step, size_t count,
                       const int columns, __m256i bytes[][VECTORS])
{
    const __m256i four = _mm256_set1_epi8(15);
    for (size_t byte = 0; byte < count; byte++, w += ROWS) {
        __m256i low[VECTORS], high[VECTORS];
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) {
            const __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32 * v));
            low[v] = _mm256_and_si256(both, four);
            high[v] = _mm256_and_si256(_mm256_srli_epi16(both, 4), four);
        }
#pragma GCC unroll 4
        for (int c = 0; c < columns; c++) {
            const uint8_t *in = x[c] + byte * step;
            const __m256i first = table_avx2(in[0]), second = table_avx2(in[1]);
#pragma GCC unroll 2
            for (int v = 0; v < VECTORS; v++) {
                const __m256i here = _mm256_add_epi8(_mm256_shuffle_epi8(first, low[v]),
                                                     _mm256_shuffle_epi8(second, high[v]));
                bytes[c][v] = _mm256_add_epi8(bytes[c][v], here);
            }
        }
    }
}

/* Adds bytes to sums of 32 bits, or to 0 where these are the first, and leaves none. */
INLINE void flush_avx2(__m256i bytes[][VECTORS], const int columns, int is_first, int32_t *misses)
{
    for (int c = 0; c < columns; c++)
        for (int v = 0; v < VECTORS; v++) {
            const __m128i half[2] = {_mm256_castsi256_si128(bytes[c][v]),
                                     _mm256_extracti128_si256(bytes[c][v], 1)};
            for (int eight = 0; eight < 4; eight++, misses += 8) {
                const __m128i of = eight % 2 ? _mm_srli_si128(half[eight / 2], 8) : half[eight / 2];
                __m256i *to = (__m256i *)(void *)misses, sum = _mm256_cvtepu8_epi32(of);
                if (!is_first)
                    sum = _mm256_add_epi32(_mm256_loadu_si256(to), sum);
                _mm256_storeu_si256(to, sum);
            }
            bytes[c][v] = _mm256_setzero_si256();
        }
}

INLINE void misses_avx2(const binary_tile_t *tile, const uint8_t *weights, const int columns,
                        int32_t *misses)
{
    const struct runs runs = runs_portable(tile);
    const size_t step = 2 * (size_t)tile->layer->bits;
    __m256i bytes[QSDK_CONV_BINARY_COLUMNS][VECTORS];
    size_t held = 0;
    int is_first = 1;
#pragma GCC unroll 4
    for (int c = 0; c < columns; c++)
        for (int v = 0; v < VECTORS; v++)
            bytes[c][v] = _mm256_setzero_si256();
    for (size_t i = 0; i < tile->down; i++)
        for (size_t run = 0; run < runs.count; run++) {
            const uint8_t *w = weights + i * runs.w_down + run * runs.w_step;
            const uint8_t *x[QSDK_CONV_BINARY_COLUMNS];
#pragma GCC unroll 4
            for (int c = 0; c < columns; c++)
                x[c] = column_portable(tile, c) + i * runs.x_down + run * runs.x_step;
            for (size_t lane = 0, here; lane < runs.lanes; lane += here, held += here) {
                if (held == FLUSH) {
                    flush_avx2(bytes, columns, is_first, misses);
                    held = 0;
                    is_first = 0;
                }
                here = runs.lanes - lane < FLUSH - held ? runs.lanes - lane : FLUSH - held;
                bytes_avx2(w + lane * ROWS, x, step, here, columns, bytes);
#pragma GCC unroll 4
                for (int c = 0; c < columns; c++)
                    x[c] += here * step;
            }
        }
    flush_avx2(bytes, columns, is_first, misses);
}

TARGET static void tile_avx2(const binary_tile_t *tile, float *y)
{
    QSDK_CONV_BINARY_TILE(misses_avx2, ROWS);
}

const struct qsdk_conv_binary_set qsdk_conv_binary_avx2 = {
    .name = "avx2",
    .coding = &qsdk_sign_codes_avx2,
    .lane_bytes = 1,
    .code_bytes = 2,
    .block_rows = ROWS,
    .tile = tile_avx2,
};

#endif
