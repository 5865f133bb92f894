/* One iteration: 32 places of 64 rows of one plane against each plane of the input. Lanes are rows:
 * a byte holds two fours of places of one row, and each four chooses, by one shuffle, how many of
 * it the input misses: those of two planes of the input, in the low and the high half of a byte. Three
 * fours have 12 misses at most, so that their sum still fits halves. It is added to one sum of
 * bytes as it is, where the halves run into each other, and shifted by a half to another, which
 * tells them apart in the end. So there is no xor, and counting bits costs nothing. Limited by
 * operations on vectors: eight and a half for 512 places. Two vectors of rows share what is loaded
 * of the input. */
#include "avx2.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))

enum { ROWS = 64, BYTES = ROWS / 32, VECTORS = ROWS / 8, AHEAD = 4096 };
enum { STEP = 4, FLUSH = 28, SEGMENT = 7936 }; /* bytes of places; so many fit 8, 16 bits */

TARGET static inline __m256i table_avx2(const uint8_t *table)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
}

/* Adds in the same register: gcc otherwise copies sums in every step. */
TARGET static inline void add_avx2(__m256i *sum, __m256i bytes)
{
    *sum = _mm256_add_epi8(*sum, bytes);
    __asm__("" : "+x"(*sum));
}

/* Sums of misses of two planes of the input, in bytes modulo 256: of the first, m, and 16 times the
 * second, n. Shifted by four bits in lanes of 16: n in odd bytes, n + 16 m of the next in even. */
struct sums_avx2 {
    __m256i both[BYTES], shifted[BYTES];
};

/* Misses of one byte of places, number b of a step, of two planes; `alone`: of one. few: of the
 * fours before that are not in the sums yet. */
TARGET static inline __attribute__((always_inline)) void
byte_avx2(__m256i fours[][BYTES][2], int parts, const uint8_t *table, int step, int b, int alone,
          __m256i *few, struct sums_avx2 *sums)
{
    QSDK_UNROLL
    for (int high = 0; high < 2; high++, table += step * parts) {
        const int number = 2 * b + high, last = number % 3 == 2 || number == 2 * STEP - 1;
        const __m256i first = table_avx2(table), other = table_avx2(table + (parts - 1) * step);
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++) {
            __m256i misses = _mm256_shuffle_epi8(first, fours[0][h][high]);
            if (parts == 2)
                misses = _mm256_add_epi8(misses, _mm256_shuffle_epi8(other, fours[1][h][high]));
            if (number % 3)
                misses = _mm256_add_epi8(misses, few[h]);
            few[h] = misses;
            if (last)
                add_avx2(&sums->both[h], misses);
            if (last && !alone)
                add_avx2(&sums->shifted[h], _mm256_srli_epi16(misses, 4));
        }
    }
}

/* STEP bytes of places of two vectors of rows against all planes of the input. */
TARGET static inline __attribute__((always_inline)) void
step_avx2(const uint8_t *w, int parts, const uint8_t *table, int bits, struct sums_avx2 *sums)
{
    const __m256i four = _mm256_set1_epi8(15);
    const int pairs = (bits + 1) / 2;
    __m256i few[QSDK_BINARY_BITS / 2][BYTES], fours[2][BYTES][2];
    QSDK_UNROLL
    for (int b = 0; b < STEP; b++, table += 32 * parts * pairs) {
        QSDK_UNROLL
        for (int part = 0; part < parts; part++, w += ROWS) {
            _mm_prefetch((const char *)w + AHEAD, _MM_HINT_T0);
            QSDK_UNROLL
            for (int h = 0; h < BYTES; h++) {
                const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(w + 32 * h));
                fours[part][h][0] = _mm256_and_si256(v, four);
                fours[part][h][1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), four);
            }
        }
        QSDK_UNROLL
        for (int pair = 0; pair < pairs; pair++)
            byte_avx2(fours, parts, table + 16 * pair, 16 * pairs, b, 2 * pair + 1 == bits,
                      few[pair], sums + pair);
    }
}

/* a - 16 b, modulo 256, in lanes of 16 bits. */
TARGET static inline __m256i less_avx2(__m256i a, __m256i b)
{
    return _mm256_and_si256(_mm256_sub_epi16(a, _mm256_slli_epi16(b, 4)), _mm256_set1_epi16(255));
}

/* Adds the misses of vector h of rows to those of even and of odd bytes, in lanes of 16 bits. */
TARGET static inline __attribute__((always_inline)) void
widen_8_avx2(const struct sums_avx2 *sums, int h, int alone, __m256i misses[][2 * BYTES])
{
    const __m256i both = sums->both[h], shifted = sums->shifted[h], none = _mm256_setzero_si256();
    const __m256i odd_second = alone ? none : _mm256_srli_epi16(shifted, 8);
    const __m256i odd_first = less_avx2(_mm256_srli_epi16(both, 8), odd_second);
    const __m256i even_second = alone ? none : less_avx2(shifted, odd_first);
    misses[0][2 * h] = _mm256_add_epi16(misses[0][2 * h], less_avx2(both, even_second));
    misses[0][2 * h + 1] = _mm256_add_epi16(misses[0][2 * h + 1], odd_first);
    if (!alone) {
        misses[1][2 * h] = _mm256_add_epi16(misses[1][2 * h], even_second);
        misses[1][2 * h + 1] = _mm256_add_epi16(misses[1][2 * h + 1], odd_second);
    }
}

/* Adds misses of up to FLUSH bytes of places. tables: [byte][low, high][part][pair]. */
TARGET static inline __attribute__((always_inline)) void
misses_8_avx2(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
              __m256i misses[][2 * BYTES])
{
    const int pairs = (bits + 1) / 2;
    const size_t chunk = (size_t)parts * ROWS, tables = (size_t)(32 * parts * pairs);
    struct sums_avx2 sums[QSDK_BINARY_BITS / 2];
    QSDK_UNROLL
    for (int pair = 0; pair < pairs; pair++)
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++)
            sums[pair].both[h] = sums[pair].shifted[h] = _mm256_setzero_si256();
    for (size_t byte = 0; byte < bytes; byte += STEP)
        step_avx2(w + byte * chunk, parts, table + byte * tables, bits, sums);
    QSDK_UNROLL
    for (int pair = 0; pair < pairs; pair++)
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++)
            widen_8_avx2(sums + pair, h, 2 * pair + 1 == bits, misses + 2 * pair);
}

/* Adds those of even and of odd bytes to misses of 4 x 8 rows, which `lanes` and `apart` of the
 * layout put in order. */
TARGET static inline void widen_16_avx2(const __m256i *numbers, __m256i *sum)
{
    const __m256i low = _mm256_set1_epi32(0xffff);
    QSDK_UNROLL
    for (int odd = 0; odd < 2; odd++) {
        sum[odd] = _mm256_add_epi32(sum[odd], _mm256_and_si256(numbers[odd], low));
        sum[odd + 2] = _mm256_add_epi32(sum[odd + 2], _mm256_srli_epi32(numbers[odd], 16));
    }
}

/* Misses of one plane of the weight as integers of 32 bits. */
TARGET static inline __attribute__((always_inline)) void
misses_avx2(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
            __m256i misses[][VECTORS])
{
    const size_t chunk = (size_t)parts * ROWS, tables = (size_t)((bits + 1) / 2 * 32 * parts);
    for (int j = 0; j < bits; j++)
        for (int s = 0; s < VECTORS; s++)
            misses[j][s] = _mm256_setzero_si256();
    for (size_t segment = 0; segment < bytes; segment += SEGMENT) {
        const size_t end = bytes - segment < SEGMENT ? bytes : segment + SEGMENT;
        __m256i sum[QSDK_BINARY_BITS][2 * BYTES];
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < 2 * BYTES; h++)
                sum[j][h] = _mm256_setzero_si256();
        for (size_t byte = segment; byte < end; byte += FLUSH)
            misses_8_avx2(w + byte * chunk, parts, table + byte * tables, bits,
                          end - byte < FLUSH ? end - byte : FLUSH, sum);
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < BYTES; h++)
                widen_16_avx2(sum[j] + 2 * h, misses[j] + 4 * h);
    }
}

TARGET static inline __attribute__((always_inline)) void
block_avx2(const qsdk_linear_binary *layer, size_t block, int parts, int bits, const uint8_t *tables,
           const float *beta, float *y)
{
    const size_t bytes = qsdk_binary_words_portable(layer) * 8;
    const size_t groups = qsdk_binary_groups_portable(layer), planes = (size_t)layer->planes;
    const size_t chunk = (size_t)parts * ROWS, table = (size_t)((bits + 1) / 2 * 32 * parts);
    __m256i misses[QSDK_BINARY_BITS][VECTORS];
    __m256 sum[VECTORS], part[VECTORS];
    for (int s = 0; s < VECTORS; s++)
        sum[s] = _mm256_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (int s = 0; s < VECTORS; s++)
            part[s] = _mm256_setzero_ps();
        for (size_t i = 0; i < planes; i++) {
            const size_t at = ((block * groups + g) * planes + i) * ROWS;
            misses_avx2(layer->weights + ((block * planes + i) * bytes + 8 * first) * chunk, parts,
                        tables + 8 * first * table, bits, 8 * (last - first), misses);
            for (int s = 0; s < VECTORS; s++) {
                __m256i places = _mm256_set1_epi32(qsdk_binary_places_portable(layer, g));
                __m256 t = _mm256_setzero_ps();
                if (parts == 2)
                    places = _mm256_loadu_si256(
                        (const __m256i *)(const void *)(layer->places + at + 8 * s));
                QSDK_UNROLL
                for (int j = 0; j < bits; j++) {
                    const __m256i twice = _mm256_slli_epi32(misses[j][s], 1);
                    const __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(places, twice));
                    t = _mm256_add_ps(t, _mm256_mul_ps(_mm256_set1_ps(beta[j]), dot));
                }
                t = _mm256_mul_ps(_mm256_loadu_ps(layer->alpha + at + 8 * s), t);
                part[s] = _mm256_add_ps(part[s], t);
            }
        }
        for (int s = 0; s < VECTORS; s++)
            sum[s] = _mm256_add_ps(sum[s], part[s]);
    }
    for (int s = 0; s < VECTORS; s++)
        _mm256_storeu_ps(y + 8 * s, sum[s]);
}

TARGET static inline __attribute__((always_inline)) void
blocks_avx2(const qsdk_linear_binary *layer, size_t first, size_t count, int parts, int bits,
            const uint8_t *tables, const float *beta, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, left = layer->rows - row;
        float out[ROWS];
        block_avx2(layer, block, parts, bits, tables, beta, left < ROWS ? out : y + row);
        if (left < ROWS)
            memcpy(y + row, out, left * sizeof *out);
    }
}

#define CASE(parts, bits)                                                                          \
    case 4 * (parts) + (bits):                                                                     \
        blocks_avx2(layer, first, count, parts, bits, input, beta, y);                             \
        break

TARGET static void rows_avx2(const qsdk_linear_binary *layer, size_t first, size_t count,
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

const struct qsdk_linear_binary_set qsdk_linear_binary_avx2 = {
    .name = "avx2",
    .lane_bytes = 1,
    .lanes = 8,
    .apart = 4,
    .block_rows = ROWS,
    .float_block_rows = QSDK_BINARY_FLOAT_ROWS_AVX2,
    .coder = &qsdk_sign_codes_avx2,
    .rows = rows_avx2,
    .float_rows = qsdk_binary_float_rows_avx2,
};

#endif
