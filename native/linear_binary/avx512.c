/* Coding: 16 elements a step, limited by the latency of adding to the one sum that the order of
 * lanes allows. Floats: 16 rows and four places a step, one permutation looks up all 16 sums. */
#include "avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,popcnt")))

enum { ROWS = QSDK_BINARY_FLOAT_ROWS_AVX512, VECTORS = ROWS / 16 };

/* The elements from k on, 16 at most, zeros behind the last. */
TARGET static inline __m512 load_avx512(const float *x, size_t n, size_t k, __mmask16 *valid)
{
    *valid = n - k < 16 ? (__mmask16)((1u << (n - k)) - 1) : (__mmask16)0xffff;
    return _mm512_maskz_loadu_ps(*valid, x + k);
}

TARGET static inline float fold_avx512(__m512 sum)
{
    float lane[16];
    _mm512_storeu_ps(lane, sum);
    return qsdk_binary_fold_portable(lane);
}

TARGET float qsdk_binary_residual_avx512(const float *x, size_t n, const float *beta, int count)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t k = 0; k < n; k += 16) {
        __mmask16 valid;
        __m512 r = _mm512_abs_ps(load_avx512(x, n, k, &valid));
        for (int i = 0; i < count; i++)
            r = _mm512_abs_ps(_mm512_sub_ps(r, _mm512_set1_ps(beta[i])));
        sum = _mm512_mask_add_ps(sum, valid, sum, r);
    }
    return fold_avx512(sum);
}

TARGET static inline __attribute__((always_inline)) void
count_above_avx512(const float *x, size_t n, const float *threshold, int count, float *sum,
                   int64_t *number)
{
    __m512 sums[QSDK_BINARY_LEVELS];
    for (int j = 0; j < count; j++) {
        sums[j] = _mm512_setzero_ps();
        number[j] = 0;
    }
    for (size_t k = 0; k < n; k += 16) {
        __mmask16 valid;
        const __m512 a = _mm512_abs_ps(load_avx512(x, n, k, &valid));
        QSDK_UNROLL
        for (int j = 0; j < count; j++) {
            const __mmask16 is =
                _mm512_mask_cmp_ps_mask(valid, a, _mm512_set1_ps(threshold[j]), _CMP_GE_OQ);
            sums[j] = _mm512_mask_add_ps(sums[j], is, sums[j], a);
            number[j] += __builtin_popcount(is);
        }
    }
    for (int j = 0; j < count; j++)
        sum[j] = fold_avx512(sums[j]);
}

TARGET void qsdk_binary_above_avx512(const float *x, size_t n, const float *threshold, int count,
                                     float *sum, int64_t *number)
{
    if (count == 1)
        count_above_avx512(x, n, threshold, 1, sum, number);
    else if (count == 3)
        count_above_avx512(x, n, threshold, 3, sum, number);
    else
        count_above_avx512(x, n, threshold, count, sum, number);
}

TARGET void qsdk_binary_code_avx512(const float *x, size_t n, const struct qsdk_binary_levels *levels,
                                    uint64_t *words)
{
    for (size_t start = 0; start < n; start += 64, words += levels->planes) {
        const size_t here = n - start < 64 ? n - start : 64;
        uint64_t above[QSDK_BINARY_LEVELS] = {0}, negative = 0;
        for (size_t k = 0; k < here; k += 16) {
            __mmask16 valid;
            const __m512 v = load_avx512(x + start, here, k, &valid), a = _mm512_abs_ps(v);
            const __m512 zero = _mm512_setzero_ps();
            negative |= (uint64_t)_mm512_cmp_ps_mask(v, zero, _CMP_LT_OQ) << k;
            for (int j = 0; j < levels->count; j++)
                above[j] |= (uint64_t)_mm512_cmp_ps_mask(a, _mm512_set1_ps(levels->threshold[j]),
                                                         _CMP_GE_OQ)
                            << k;
        }
        qsdk_binary_planes_portable(levels, above, negative, qsdk_binary_valid_portable(here), words);
    }
}

/* t of one plane, bytes of places; w: [byte][part][64 rows]. */
TARGET static inline void floats_avx512(const uint8_t *w, int parts, const float *table, size_t bytes,
                                        __m512 *t)
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

TARGET void qsdk_binary_float_rows_avx512(const qsdk_linear_binary *layer, size_t first, size_t count,
                                          const float *tables, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, here = layer->rows - row < ROWS ? layer->rows - row : ROWS;
        float out[ROWS];
        float_block_avx512(layer, block, tables, out);
        memcpy(y + row, out, here * sizeof *out);
    }
}

#endif
