/* Floats: 16 rows and four places a step, one permutation looks up all 16 sums. */
#include "avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,popcnt")))

enum { ROWS = QSDK_BINARY_FLOAT_ROWS_AVX512, VECTORS = ROWS / 16 };

/* t of one plane, bytes of places; w: [byte][part][64 rows]. */
TARGET static inline void floats_avx512(const uint8_t *w, int parts, const float *table,
                                        size_t bytes, __m512 *t)
{
    QSDK_UNROLL
    for (int s = 0; s < VECTORS; s++)
        t[s] = _mm512_setzero_ps();
    for (size_t byte = 0; byte < bytes; byte++, w += parts * ROWS, table += 32) {
        const __m512 low = _mm512_loadu_ps(table), high = _mm512_loadu_ps(table + 16);
        _mm_prefetch((const char *)w + 4096, _MM_HINT_T0);
        QSDK_UNROLL
        for (int s = 0; s < VECTORS; s++) {
            const __m512i p =
                _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(w + 16 * s)));
            __m512 first = _mm512_permutexvar_ps(p, low);
            __m512 second = _mm512_permutexvar_ps(_mm512_srli_epi32(p, 4), high);
            if (parts == 2) {
                const __m512i m = _mm512_cvtepu8_epi32(
                    _mm_loadu_si128((const __m128i *)(const void *)(w + ROWS + 16 * s)));
                first = _mm512_sub_ps(first, _mm512_permutexvar_ps(m, low));
                second = _mm512_sub_ps(second,
                                       _mm512_permutexvar_ps(_mm512_srli_epi32(m, 4), high));
            }
            t[s] = _mm512_add_ps(_mm512_add_ps(t[s], first), second);
        }
    }
}

TARGET static void float_block_avx512(const qsdk_linear_binary *layer, size_t block,
                                      const float *tables, float *y)
{
    const size_t bytes = qsdk_binary_words_portable(layer) * 8;
    const size_t groups = qsdk_binary_groups_portable(layer), planes = (size_t)layer->planes;
    const size_t chunk = (size_t)layer->parts * ROWS;
    __m512 sum[VECTORS], part[VECTORS], t[VECTORS];
    for (int s = 0; s < VECTORS; s++)
        sum[s] = _mm512_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        for (int s = 0; s < VECTORS; s++)
            part[s] = _mm512_setzero_ps();
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (size_t i = 0; i < planes; i++) {
            const uint8_t *w = layer->weights + ((block * planes + i) * bytes + 8 * first) * chunk;
            const float *alpha = layer->alpha + ((block * groups + g) * planes + i) * ROWS;
            if (layer->parts == 1)
                floats_avx512(w, 1, tables + 256 * first, 8 * (last - first), t);
            else
                floats_avx512(w, 2, tables + 256 * first, 8 * (last - first), t);
            QSDK_UNROLL
            for (int s = 0; s < VECTORS; s++) {
                t[s] = _mm512_mul_ps(_mm512_loadu_ps(alpha + 16 * s), t[s]);
                part[s] = _mm512_add_ps(part[s], t[s]);
            }
        }
        QSDK_UNROLL
        for (int s = 0; s < VECTORS; s++)
            sum[s] = _mm512_add_ps(sum[s], part[s]);
    }
    for (int s = 0; s < VECTORS; s++)
        _mm512_storeu_ps(y + 16 * s, sum[s]);
}

TARGET void qsdk_binary_float_rows_avx512(const qsdk_linear_binary *layer, size_t first,
                                          size_t count, const float *tables, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, here = layer->rows - row < ROWS ? layer->rows - row : ROWS;
        float out[ROWS];
        float_block_avx512(layer, block, tables, out);
        memcpy(y + row, out, here * sizeof *out);
    }
}

#endif
