/* One iteration: eight places of 32 rows; each four of a row chooses one of 16 sums, by a
 * permutation in each half of them. Limited by permutations, four for eight rows. */
#include "avx2.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))

enum { ROWS = QSDK_BINARY_FLOAT_ROWS_AVX2, VECTORS = ROWS / 8 };

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
        const __m256i minus = bytes_avx2(w + ROWS);
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
    const size_t chunk = (size_t)parts * ROWS;
    __m256 sum[VECTORS], part[VECTORS], t[VECTORS];
    for (int s = 0; s < VECTORS; s++)
        sum[s] = _mm256_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (int s = 0; s < VECTORS; s++)
            part[s] = _mm256_setzero_ps();
        for (size_t i = 0; i < planes; i++) {
            const uint8_t *w = layer->weights + ((block * planes + i) * bytes + 8 * first) * chunk;
            const float *alpha = layer->alpha + ((block * groups + g) * planes + i) * ROWS;
            for (int s = 0; s < VECTORS; s++)
                t[s] = _mm256_setzero_ps();
            for (size_t byte = 8 * first; byte < 8 * last; byte++, w += chunk)
                QSDK_UNROLL
                for (int s = 0; s < VECTORS; s++)
                    t[s] = floats_avx2(w + 8 * s, parts, tables + 32 * byte, t[s]);
            for (int s = 0; s < VECTORS; s++)
                part[s] = _mm256_add_ps(part[s],
                                        _mm256_mul_ps(_mm256_loadu_ps(alpha + 8 * s), t[s]));
        }
        for (int s = 0; s < VECTORS; s++)
            sum[s] = _mm256_add_ps(sum[s], part[s]);
    }
    for (int s = 0; s < VECTORS; s++)
        _mm256_storeu_ps(y + 8 * s, sum[s]);
}

TARGET void qsdk_binary_float_rows_avx2(const qsdk_linear_binary *layer, size_t first, size_t count,
                                   const float *tables, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, left = layer->rows - row;
        float out[ROWS];
        float_block_avx2(layer, block, tables, out);
        memcpy(y + row, out, (left < ROWS ? left : ROWS) * sizeof *out);
    }
}

#endif
