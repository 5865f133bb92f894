/* For CPUs with AVX-512 that cannot count bits in vectors. One iteration: eight places of 128
 * rows of one plane against each plane of the input, by shuffles in tables as in avx2.c. */
#include "avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq")))

enum { ROWS = 128, BYTES = ROWS / 64, VECTORS = ROWS / 16, AHEAD = 8192 };
enum { FLUSH = 31, SEGMENT = 7936 }; /* bytes of places that fit 8 and 16 bits of misses */

TARGET static inline __m512i table_avx512bw(const uint8_t *table)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
}

/* Misses of up to FLUSH bytes of places, in bytes. tables: [byte][low, high][part][bits]. */
TARGET static inline __attribute__((always_inline)) void
misses_8_avx512bw(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
              __m512i misses[][BYTES])
{
    const __m512i four = _mm512_set1_epi8(15);
    QSDK_UNROLL
    for (int j = 0; j < bits; j++)
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++)
            misses[j][h] = _mm512_setzero_si512();
    for (size_t byte = 0; byte < bytes; byte++, w += parts * ROWS, table += 32 * parts * bits) {
        QSDK_UNROLL
        for (int part = 0; part < parts; part++) {
            __m512i low[BYTES], high[BYTES];
            QSDK_UNROLL
            for (int h = 0; h < BYTES; h++)
                _mm_prefetch((const char *)w + AHEAD + part * ROWS + 64 * h, _MM_HINT_T0);
            QSDK_UNROLL
            for (int h = 0; h < BYTES; h++) {
                const uint8_t *at = w + part * ROWS + 64 * h;
                const __m512i v = _mm512_loadu_si512(at);
                low[h] = _mm512_and_si512(v, four);
                high[h] = _mm512_and_si512(_mm512_srli_epi16(v, 4), four);
            }
            QSDK_UNROLL
            for (int j = 0; j < bits; j++) {
                const __m512i a = table_avx512bw(table + 16 * (part * bits + j));
                const __m512i b = table_avx512bw(table + 16 * ((parts + part) * bits + j));
                QSDK_UNROLL
                for (int h = 0; h < BYTES; h++) {
                    const __m512i both = _mm512_add_epi8(_mm512_shuffle_epi8(a, low[h]),
                                                         _mm512_shuffle_epi8(b, high[h]));
                    misses[j][h] = _mm512_add_epi8(misses[j][h], both);
                }
            }
        }
    }
}

/* Adds bytes, as integers of 16 bits, to two vectors; then 16 as 32 to two more. */
TARGET static inline void widen_8_avx512bw(__m512i bytes, __m512i *sum)
{
    const __m256i low = _mm512_castsi512_si256(bytes), high = _mm512_extracti64x4_epi64(bytes, 1);
    sum[0] = _mm512_add_epi16(sum[0], _mm512_cvtepu8_epi16(low));
    sum[1] = _mm512_add_epi16(sum[1], _mm512_cvtepu8_epi16(high));
}

TARGET static inline void widen_16_avx512bw(__m512i numbers, __m512i *sum)
{
    const __m256i low = _mm512_castsi512_si256(numbers);
    const __m256i high = _mm512_extracti64x4_epi64(numbers, 1);
    sum[0] = _mm512_add_epi32(sum[0], _mm512_cvtepu16_epi32(low));
    sum[1] = _mm512_add_epi32(sum[1], _mm512_cvtepu16_epi32(high));
}

/* Misses of one plane of the weight as integers of 32 bits. */
TARGET static inline __attribute__((always_inline)) void
misses_avx512bw(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
            __m512i misses[][VECTORS])
{
    const size_t step = (size_t)parts;
    for (int j = 0; j < bits; j++)
        for (int s = 0; s < VECTORS; s++)
            misses[j][s] = _mm512_setzero_si512();
    for (size_t segment = 0; segment < bytes; segment += SEGMENT) {
        const size_t end = bytes - segment < SEGMENT ? bytes : segment + SEGMENT;
        __m512i sum[QSDK_BINARY_BITS][2 * BYTES], few[QSDK_BINARY_BITS][BYTES];
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < 2 * BYTES; h++)
                sum[j][h] = _mm512_setzero_si512();
        for (size_t byte = segment; byte < end; byte += FLUSH) {
            const size_t here = end - byte < FLUSH ? end - byte : FLUSH;
            misses_8_avx512bw(w + byte * step * ROWS, parts,
                              table + byte * step * (size_t)(32 * bits), bits, here, few);
            QSDK_UNROLL
            for (int j = 0; j < bits; j++)
                for (int h = 0; h < BYTES; h++)
                    widen_8_avx512bw(few[j][h], sum[j] + 2 * h);
        }
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < 2 * BYTES; h++)
                widen_16_avx512bw(sum[j][h], misses[j] + 2 * h);
    }
}

TARGET static inline __attribute__((always_inline)) void
block_avx512bw(const qsdk_linear_binary *layer, size_t block, int parts, int bits,
               const uint8_t *tables, const float *beta, float *y)
{
    const size_t bytes = qsdk_binary_words_portable(layer) * 8;
    const size_t groups = qsdk_binary_groups_portable(layer), planes = (size_t)layer->planes;
    const size_t chunk = (size_t)parts * ROWS, table = (size_t)(32 * parts * bits);
    __m512i misses[QSDK_BINARY_BITS][VECTORS];
    __m512 sum[VECTORS], part[VECTORS];
    for (int s = 0; s < VECTORS; s++)
        sum[s] = _mm512_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (int s = 0; s < VECTORS; s++)
            part[s] = _mm512_setzero_ps();
        for (size_t i = 0; i < planes; i++) {
            const size_t at = ((block * groups + g) * planes + i) * ROWS;
            misses_avx512bw(layer->weights + ((block * planes + i) * bytes + 8 * first) * chunk,
                            parts, tables + 8 * first * table, bits, 8 * (last - first), misses);
            QSDK_UNROLL
            for (int s = 0; s < VECTORS; s++) {
                __m512i places = _mm512_set1_epi32(qsdk_binary_places_portable(layer, g));
                __m512 t = _mm512_setzero_ps();
                if (parts == 2)
                    places = _mm512_loadu_si512(layer->places + at + 16 * s);
                QSDK_UNROLL
                for (int j = 0; j < bits; j++) {
                    const __m512i twice = _mm512_slli_epi32(misses[j][s], 1);
                    const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(places, twice));
                    t = _mm512_add_ps(t, _mm512_mul_ps(_mm512_set1_ps(beta[j]), dot));
                }
                t = _mm512_mul_ps(_mm512_loadu_ps(layer->alpha + at + 16 * s), t);
                part[s] = _mm512_add_ps(part[s], t);
            }
        }
        for (int s = 0; s < VECTORS; s++)
            sum[s] = _mm512_add_ps(sum[s], part[s]);
    }
    for (int s = 0; s < VECTORS; s++)
        _mm512_storeu_ps(y + 16 * s, sum[s]);
}

TARGET static inline __attribute__((always_inline)) void
blocks_avx512bw(const qsdk_linear_binary *layer, size_t first, size_t count, int parts, int bits,
                const uint8_t *tables, const float *beta, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, here = layer->rows - row < ROWS ? layer->rows - row : ROWS;
        float out[ROWS];
        block_avx512bw(layer, block, parts, bits, tables, beta, out);
        memcpy(y + row, out, here * sizeof *out);
    }
}

#define CASE(parts, bits)                                                                          \
    case 4 * (parts) + (bits):                                                                     \
        blocks_avx512bw(layer, first, count, parts, bits, input, beta, y);                         \
        break

TARGET static void rows_avx512bw(const qsdk_linear_binary *layer, size_t first, size_t count,
                                 const void *input, const float *beta, float *y)
{
    switch (4 * layer->parts + layer->bits) {
        CASE(1, 1);
        CASE(1, 2);
        CASE(1, 3);
        CASE(1, 4);
        CASE(2, 1);
        CASE(2, 2);
        CASE(2, 3);
        CASE(2, 4);
    }
}

const struct qsdk_linear_binary_set qsdk_linear_binary_avx512bw = {
    .name = "avx512bw",
    .lane_bytes = 1,
    .block_rows = ROWS,
    .float_block_rows = QSDK_BINARY_FLOAT_ROWS_AVX512,
    .coder = &qsdk_sign_codes_avx512bw,
    .rows = rows_avx512bw,
    .float_rows = qsdk_binary_float_rows_avx512,
};

#endif
