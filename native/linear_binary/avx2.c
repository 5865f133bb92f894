/* One iteration: eight places of 64 rows of one plane against each plane of the input. Lanes are
 * rows: a byte holds two fours of places of one row, and each four chooses, by one shuffle, how many
 * of it the input misses. So there is no xor, and counting bits costs nothing. Limited by shuffles
 * and additions: two of each for 256 places, beside three operations to split the bytes. Two vectors
 * of rows share what is loaded of the input. */
#include "linear_binary.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,popcnt")))

enum { ROWS = 64, BYTES = ROWS / 32, VECTORS = ROWS / 8, AHEAD = 4096 };
enum { FLOAT_ROWS = 32, FLOAT_VECTORS = FLOAT_ROWS / 8 };
enum { FLUSH = 31, SEGMENT = 7936 }; /* bytes of places that fit 8 and 16 bits of misses */

/* Coding. */

TARGET static inline __m256 abs_avx2(__m256 v)
{
    return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}

TARGET static inline float fold_avx2(const __m256 *sum)
{
    float lane[16];
    _mm256_storeu_ps(lane, sum[0]);
    _mm256_storeu_ps(lane + 8, sum[1]);
    return qsdk_binary_fold_portable(lane);
}

TARGET static float residual_avx2(const float *x, size_t n, const float *beta, int count)
{
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    float last[16] = {0};
    const size_t whole = n / 16 * 16;
    for (size_t k = whole; k < n; k++)
        last[k - whole] = qsdk_binary_residual_portable(x[k], beta, count);
    for (size_t k = 0; k < whole; k += 16)
        for (int h = 0; h < 2; h++) {
            __m256 r = abs_avx2(_mm256_loadu_ps(x + k + 8 * h));
            for (int i = 0; i < count; i++)
                r = abs_avx2(_mm256_sub_ps(r, _mm256_set1_ps(beta[i])));
            sum[h] = _mm256_add_ps(sum[h], r);
        }
    for (int h = 0; h < 2; h++)
        sum[h] = _mm256_add_ps(sum[h], _mm256_loadu_ps(last + 8 * h));
    return fold_avx2(sum);
}

/* Sum and number of 16 magnitudes at or above the threshold. */
TARGET static inline int above_16_avx2(const float *x, __m256 threshold, __m256 *sum)
{
    int number = 0;
    for (int h = 0; h < 2; h++) {
        const __m256 a = abs_avx2(_mm256_loadu_ps(x + 8 * h));
        const __m256 is = _mm256_cmp_ps(a, threshold, _CMP_GE_OQ);
        sum[h] = _mm256_add_ps(sum[h], _mm256_and_ps(a, is));
        number += __builtin_popcount((unsigned)_mm256_movemask_ps(is));
    }
    return number;
}

TARGET static void above_avx2(const float *x, size_t n, const float *threshold, int count, float *sum,
                              int64_t *number)
{
    const size_t whole = n / 16 * 16;
    float last[16] = {0};
    memcpy(last, x + whole, (n - whole) * sizeof *x);
    for (int j = 0; j < count; j++) {
        const __m256 limit = _mm256_set1_ps(threshold[j]);
        __m256 sums[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
        number[j] = 0;
        for (size_t k = 0; k < whole; k += 16)
            number[j] += above_16_avx2(x + k, limit, sums);
        number[j] += above_16_avx2(last, limit, sums);
        if (0 >= threshold[j]) /* so were the zeros behind the last */
            number[j] -= (int64_t)(16 - (n - whole));
        sum[j] = fold_avx2(sums);
    }
}

/* 64 elements. */
TARGET static inline void code_64_avx2(const float *x, uint64_t valid,
                                       const struct qsdk_binary_levels *levels, uint64_t *words)
{
    uint64_t above[QSDK_BINARY_LEVELS] = {0}, negative = 0;
    for (int k = 0; k < 64; k += 8) {
        const __m256 v = _mm256_loadu_ps(x + k), a = abs_avx2(v);
        const __m256 less = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ);
        negative |= (uint64_t)(unsigned)_mm256_movemask_ps(less) << k;
        for (int j = 0; j < levels->count; j++) {
            const __m256 is = _mm256_cmp_ps(a, _mm256_set1_ps(levels->threshold[j]), _CMP_GE_OQ);
            above[j] |= (uint64_t)(unsigned)_mm256_movemask_ps(is) << k;
        }
    }
    qsdk_binary_planes_portable(levels, above, negative, valid, words);
}

TARGET static void code_avx2(const float *x, size_t n, const struct qsdk_binary_levels *levels,
                             uint64_t *words)
{
    size_t start = 0;
    for (; n - start >= 64; start += 64, words += levels->planes)
        code_64_avx2(x + start, ~UINT64_C(0), levels, words);
    if (start < n) {
        float last[64] = {0};
        memcpy(last, x + start, (n - start) * sizeof *x);
        code_64_avx2(last, qsdk_binary_valid_portable(n - start), levels, words);
    }
}

/* Binary input. */

TARGET static inline __m256i table_avx2(const uint8_t *table)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table));
}

/* Misses of up to FLUSH bytes of places, in bytes. tables: [byte][low, high][part][bits]. */
TARGET static inline __attribute__((always_inline)) void
misses_8_avx2(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
              __m256i misses[][BYTES])
{
    const __m256i four = _mm256_set1_epi8(15);
    QSDK_UNROLL
    for (int j = 0; j < bits; j++)
        QSDK_UNROLL
        for (int h = 0; h < BYTES; h++)
            misses[j][h] = _mm256_setzero_si256();
    for (size_t byte = 0; byte < bytes; byte++, w += parts * ROWS, table += 32 * parts * bits) {
        QSDK_UNROLL
        for (int part = 0; part < parts; part++) {
            __m256i low[BYTES], high[BYTES];
            _mm_prefetch((const char *)w + AHEAD + part * ROWS, _MM_HINT_T0);
            QSDK_UNROLL
            for (int h = 0; h < BYTES; h++) {
                const uint8_t *at = w + part * ROWS + 32 * h;
                const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)at);
                low[h] = _mm256_and_si256(v, four);
                high[h] = _mm256_and_si256(_mm256_srli_epi16(v, 4), four);
            }
            QSDK_UNROLL
            for (int j = 0; j < bits; j++) {
                const __m256i a = table_avx2(table + 16 * (part * bits + j));
                const __m256i b = table_avx2(table + 16 * ((parts + part) * bits + j));
                QSDK_UNROLL
                for (int h = 0; h < BYTES; h++) {
                    const __m256i both = _mm256_add_epi8(_mm256_shuffle_epi8(a, low[h]),
                                                         _mm256_shuffle_epi8(b, high[h]));
                    misses[j][h] = _mm256_add_epi8(misses[j][h], both);
                }
            }
        }
    }
}

/* Adds bytes, as integers of 16 bits, to two vectors; then 16 as 32 to two more. */
TARGET static inline void widen_8_avx2(__m256i bytes, __m256i *sum)
{
    const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
    sum[0] = _mm256_add_epi16(sum[0], _mm256_cvtepu8_epi16(low));
    sum[1] = _mm256_add_epi16(sum[1], _mm256_cvtepu8_epi16(high));
}

TARGET static inline void widen_16_avx2(__m256i numbers, __m256i *sum)
{
    const __m128i low = _mm256_castsi256_si128(numbers);
    const __m128i high = _mm256_extracti128_si256(numbers, 1);
    sum[0] = _mm256_add_epi32(sum[0], _mm256_cvtepu16_epi32(low));
    sum[1] = _mm256_add_epi32(sum[1], _mm256_cvtepu16_epi32(high));
}

/* Misses of one plane of the weight as integers of 32 bits. */
TARGET static inline __attribute__((always_inline)) void
misses_avx2(const uint8_t *w, int parts, const uint8_t *table, int bits, size_t bytes,
            __m256i misses[][VECTORS])
{
    const size_t step = (size_t)parts;
    for (int j = 0; j < bits; j++)
        for (int s = 0; s < VECTORS; s++)
            misses[j][s] = _mm256_setzero_si256();
    for (size_t segment = 0; segment < bytes; segment += SEGMENT) {
        const size_t end = bytes - segment < SEGMENT ? bytes : segment + SEGMENT;
        __m256i sum[QSDK_BINARY_BITS][2 * BYTES], few[QSDK_BINARY_BITS][BYTES];
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < 2 * BYTES; h++)
                sum[j][h] = _mm256_setzero_si256();
        for (size_t byte = segment; byte < end; byte += FLUSH) {
            const size_t here = end - byte < FLUSH ? end - byte : FLUSH;
            misses_8_avx2(w + byte * step * ROWS, parts, table + byte * step * (size_t)(32 * bits),
                          bits, here, few);
            QSDK_UNROLL
            for (int j = 0; j < bits; j++)
                for (int h = 0; h < BYTES; h++)
                    widen_8_avx2(few[j][h], sum[j] + 2 * h);
        }
        for (int j = 0; j < bits; j++)
            for (int h = 0; h < 2 * BYTES; h++)
                widen_16_avx2(sum[j][h], misses[j] + 2 * h);
    }
}

TARGET static inline __attribute__((always_inline)) void
block_avx2(const qsdk_linear_binary *layer, size_t block, int parts, int bits, const uint8_t *tables,
           const float *beta, float *y)
{
    const size_t bytes = qsdk_binary_words_portable(layer) * 8;
    const size_t groups = qsdk_binary_groups_portable(layer), planes = (size_t)layer->planes;
    const size_t chunk = (size_t)parts * ROWS, table = (size_t)(32 * parts * bits);
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
        const size_t row = block * ROWS, here = layer->rows - row < ROWS ? layer->rows - row : ROWS;
        float out[ROWS];
        block_avx2(layer, block, parts, bits, tables, beta, out);
        memcpy(y + row, out, here * sizeof *out);
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

/* Floats. */

/* The sums that the lowest four bits of each number choose out of 16; bit 3, brought to the top,
 * says which half of them. */
TARGET static inline __m256 chosen_avx2(__m256i four, const float *table)
{
    const __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), four);
    const __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), four);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(four, 28)));
}

TARGET static inline __m256i bytes_avx2(const uint8_t *w)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)w));
}

/* Adds to t what one byte of places gives eight rows. */
TARGET static inline __m256 floats_avx2(const uint8_t *w, int parts, const float *table, __m256 t)
{
    const __m256i plus = bytes_avx2(w);
    __m256 low = chosen_avx2(plus, table);
    __m256 high = chosen_avx2(_mm256_srli_epi32(plus, 4), table + 16);
    if (parts == 2) {
        const __m256i minus = bytes_avx2(w + FLOAT_ROWS);
        low = _mm256_sub_ps(low, chosen_avx2(minus, table));
        high = _mm256_sub_ps(high, chosen_avx2(_mm256_srli_epi32(minus, 4), table + 16));
    }
    return _mm256_add_ps(_mm256_add_ps(t, low), high);
}

TARGET static void float_block_avx2(const qsdk_linear_binary *layer, size_t block,
                                    const float *tables, float *y)
{
    const size_t bytes = qsdk_binary_words_portable(layer) * 8;
    const size_t groups = qsdk_binary_groups_portable(layer), planes = (size_t)layer->planes;
    const int parts = layer->parts;
    const size_t chunk = (size_t)parts * FLOAT_ROWS;
    __m256 sum[FLOAT_VECTORS], part[FLOAT_VECTORS], t[FLOAT_VECTORS];
    for (int s = 0; s < FLOAT_VECTORS; s++)
        sum[s] = _mm256_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (int s = 0; s < FLOAT_VECTORS; s++)
            part[s] = _mm256_setzero_ps();
        for (size_t i = 0; i < planes; i++) {
            const uint8_t *w = layer->weights + ((block * planes + i) * bytes + 8 * first) * chunk;
            const float *alpha = layer->alpha + ((block * groups + g) * planes + i) * FLOAT_ROWS;
            for (int s = 0; s < FLOAT_VECTORS; s++)
                t[s] = _mm256_setzero_ps();
            for (size_t byte = 8 * first; byte < 8 * last; byte++, w += chunk)
                QSDK_UNROLL
                for (int s = 0; s < FLOAT_VECTORS; s++)
                    t[s] = floats_avx2(w + 8 * s, parts, tables + 32 * byte, t[s]);
            for (int s = 0; s < FLOAT_VECTORS; s++)
                part[s] = _mm256_add_ps(part[s],
                                        _mm256_mul_ps(_mm256_loadu_ps(alpha + 8 * s), t[s]));
        }
        for (int s = 0; s < FLOAT_VECTORS; s++)
            sum[s] = _mm256_add_ps(sum[s], part[s]);
    }
    for (int s = 0; s < FLOAT_VECTORS; s++)
        _mm256_storeu_ps(y + 8 * s, sum[s]);
}

TARGET static void float_rows_avx2(const qsdk_linear_binary *layer, size_t first, size_t count,
                                   const float *tables, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * FLOAT_ROWS, left = layer->rows - row;
        float out[FLOAT_ROWS];
        float_block_avx2(layer, block, tables, out);
        memcpy(y + row, out, (left < FLOAT_ROWS ? left : FLOAT_ROWS) * sizeof *out);
    }
}

const struct qsdk_linear_binary_set qsdk_linear_binary_avx2 = {
    .name = "avx2",
    .lane_bytes = 1,
    .block_rows = ROWS,
    .float_block_rows = FLOAT_ROWS,
    .residual = residual_avx2,
    .above = above_avx2,
    .code = code_avx2,
    .rows = rows_avx2,
    .float_rows = float_rows_avx2,
};

#endif
