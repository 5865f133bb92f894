/* For CPUs with AVX-512 that cannot count bits in vectors. One iteration: 32 places of 128 rows of
 * one plane against each plane of the input, by shuffles in tables, step by step as in avx2.c. */
#include "avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq")))

enum { ROWS = 128, BYTES = ROWS / 64, VECTORS = ROWS / 16, AHEAD = 8192 };
enum { STEP = 4, FLUSH = 28, SEGMENT = 7936 }; /* bytes of places; so many fit 8, 16 bits */

TARGET static inline __m512i table_avx512bw(const uint8_t *table)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table));
}

/* Adds in the same register: gcc otherwise copies sums in every step. */
TARGET static inline void add_avx512bw(__m512i *sum, __m512i bytes)
{
    *sum = _mm512_add_epi8(*sum, bytes);
    __asm__("" : "+v"(*sum));
}

/* Sums of misses of two planes of the input, in bytes modulo 256: of the first, m, and 16 times the
 * second, n. Shifted by four bits in lanes of 16: n in odd bytes, n + 16 m of the next in even. */
struct sums_avx512bw {
    __m512i both[BYTES], shifted[BYTES];
};

/* Misses of one byte of places, number b of a step, of two planes; `alone`: of one. few: of the
 * fours before that are not in the sums yet. */
TARGET static inline __attribute__((always_inline)) void
byte_avx512bw(__m512i fours[][BYTES][2], int parts, const uint8_t *table, int step, int b,
              int alone, __m512i *few, struct sums_avx512bw *sums)
{
    QSDK_UNROLL
    for (int high = 0; high < 2; high++, table += step * parts) {
        const int number = 2 * b + high, last = number % 3 == 2 || number == 2 * STEP - 1;
        const __m512i first = table_avx512bw(table);
        const __m512i other = table_avx512bw(table + (parts - 1) * step);
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++) {
            __m512i misses = _mm512_shuffle_epi8(first, fours[0][h][high]);
            if (parts == 2)
                misses = _mm512_add_epi8(misses, _mm512_shuffle_epi8(other, fours[1][h][high]));
            if (number % 3)
                misses = _mm512_add_epi8(misses, few[h]);
            few[h] = misses;
            if (last)
                add_avx512bw(&sums->both[h], misses);
            if (last && !alone)
                add_avx512bw(&sums->shifted[h], _mm512_srli_epi16(misses, 4));
        }
    }
}

/* STEP bytes of places of two vectors of rows against all planes of the input. */
TARGET static inline __attribute__((always_inline)) void
step_avx512bw(const uint8_t *w, int parts, const uint8_t *table, int bits,
              struct sums_avx512bw *sums)
{
    const __m512i four = _mm512_set1_epi8(15);
    const int pairs = (bits + 1) / 2;
    __m512i few[QSDK_BINARY_BITS / 2][BYTES], fours[2][BYTES][2];
    QSDK_UNROLL
    for (int b = 0; b < STEP; b++, table += 32 * parts * pairs) {
        QSDK_UNROLL
        for (int part = 0; part < parts; part++, w += ROWS) {
            QSDK_UNROLL
            for (int h = 0; h < BYTES; h++) {
                _mm_prefetch((const char *)w + AHEAD + 64 * h, _MM_HINT_T0);
                const __m512i v = _mm512_loadu_si512(w + 64 * h);
                fours[part][h][0] = _mm512_and_si512(v, four);
                fours[part][h][1] = _mm512_and_si512(_mm512_srli_epi16(v, 4), four);
            }
        }
        QSDK_UNROLL
        for (int pair = 0; pair < pairs; pair++)
            byte_avx512bw(fours, parts, table + 16 * pair, 16 * pairs, b, 2 * pair + 1 == bits,
                      few[pair], sums + pair);
    }
}

/* a - 16 b, modulo 256, in lanes of 16 bits. */
TARGET static inline __m512i less_avx512bw(__m512i a, __m512i b)
{
    return _mm512_and_si512(_mm512_sub_epi16(a, _mm512_slli_epi16(b, 4)), _mm512_set1_epi16(255));
}

/* Adds the misses of vector h of rows to those of even and of odd bytes, in lanes of 16 bits. */
TARGET static inline __attribute__((always_inline)) void
widen_8_avx512bw(const struct sums_avx512bw *sums, int h, int alone, __m512i misses[][2 * BYTES])
{
    const __m512i both = sums->both[h], shifted = sums->shifted[h], none = _mm512_setzero_si512();
    const __m512i odd_second = alone ? none : _mm512_srli_epi16(shifted, 8);
    const __m512i odd_first = less_avx512bw(_mm512_srli_epi16(both, 8), odd_second);
    const __m512i even_second = alone ? none : less_avx512bw(shifted, odd_first);
    misses[0][2 * h] = _mm512_add_epi16(misses[0][2 * h], less_avx512bw(both, even_second));
    misses[0][2 * h + 1] = _mm512_add_epi16(misses[0][2 * h + 1], odd_first);
    if (!alone) {
        misses[1][2 * h] = _mm512_add_epi16(misses[1][2 * h], even_second);
        misses[1][2 * h + 1] = _mm512_add_epi16(misses[1][2 * h + 1], odd_second);
    }
}

/* Adds misses of up to FLUSH bytes of places. tables: [byte][low, high][part][pair]. */
TARGET static inline __attribute__((always_inline)) void
misses_8_avx512bw(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
              __m512i misses[][2 * BYTES])
{
    const int pairs = (bits + 1) / 2;
    const size_t chunk = (size_t)parts * ROWS, tables = (size_t)(32 * parts * pairs);
    struct sums_avx512bw sums[QSDK_BINARY_BITS / 2];
    QSDK_UNROLL
    for (int pair = 0; pair < pairs; pair++)
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++)
            sums[pair].both[h] = sums[pair].shifted[h] = _mm512_setzero_si512();
    for (size_t byte = 0; byte < bytes; byte += STEP)
        step_avx512bw(w + byte * chunk, parts, table + byte * tables, bits, sums);
    QSDK_UNROLL
    for (int pair = 0; pair < pairs; pair++)
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++)
            widen_8_avx512bw(sums + pair, h, 2 * pair + 1 == bits, misses + 2 * pair);
}

/* Adds those of even and of odd bytes to misses of 4 x 16 rows, which `lanes` and `apart` of the
 * layout put in order. */
TARGET static inline void widen_16_avx512bw(const __m512i *numbers, __m512i *sum)
{
    const __m512i low = _mm512_set1_epi32(0xffff);
    QSDK_UNROLL
    for (int odd = 0; odd < 2; odd++) {
        sum[odd] = _mm512_add_epi32(sum[odd], _mm512_and_si512(numbers[odd], low));
        sum[odd + 2] = _mm512_add_epi32(sum[odd + 2], _mm512_srli_epi32(numbers[odd], 16));
    }
}

/* Misses of one plane of the weight as integers of 32 bits. */
TARGET static inline __attribute__((always_inline)) void
misses_avx512bw(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
            __m512i misses[][VECTORS])
{
    const size_t chunk = (size_t)parts * ROWS, tables = (size_t)((bits + 1) / 2 * 32 * parts);
    for (int j = 0; j < bits; j++)
        for (int s = 0; s < VECTORS; s++)
            misses[j][s] = _mm512_setzero_si512();
    for (size_t segment = 0; segment < bytes; segment += SEGMENT) {
        const size_t end = bytes - segment < SEGMENT ? bytes : segment + SEGMENT;
        __m512i sum[QSDK_BINARY_BITS][2 * BYTES];
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < 2 * BYTES; h++)
                sum[j][h] = _mm512_setzero_si512();
        for (size_t byte = segment; byte < end; byte += FLUSH)
            misses_8_avx512bw(w + byte * chunk, parts, table + byte * tables, bits,
                          end - byte < FLUSH ? end - byte : FLUSH, sum);
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < BYTES; h++)
                widen_16_avx512bw(sum[j] + 2 * h, misses[j] + 4 * h);
    }
}

TARGET static inline __attribute__((always_inline)) void
block_avx512bw(const qsdk_linear_binary *layer, size_t block, int parts, int bits,
               const uint8_t *tables, const float *beta, float *y)
{
    const size_t bytes = qsdk_binary_words_portable(layer) * 8;
    const size_t groups = qsdk_binary_groups_portable(layer), planes = (size_t)layer->planes;
    const size_t chunk = (size_t)parts * ROWS, table = (size_t)((bits + 1) / 2 * 32 * parts);
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
        const size_t row = block * ROWS, left = layer->rows - row;
        float out[ROWS];
        block_avx512bw(layer, block, parts, bits, tables, beta, left < ROWS ? out : y + row);
        if (left < ROWS)
            memcpy(y + row, out, left * sizeof *out);
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
    .lanes = 16,
    .apart = 4,
    .block_rows = ROWS,
    .float_block_rows = QSDK_BINARY_FLOAT_ROWS_AVX512,
    .coder = &qsdk_sign_codes_avx512bw,
    .rows = rows_avx512bw,
    .float_rows = qsdk_binary_float_rows_avx512,
};

#endif
