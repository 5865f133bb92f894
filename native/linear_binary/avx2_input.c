/* Coding: 16 elements a step, limited by the latency of adding to the one sum that the order of
 * lanes allows. */
#include "avx2.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2,popcnt")))

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

TARGET float qsdk_binary_residual_avx2(const float *x, size_t n, const float *beta, int count)
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

TARGET void qsdk_binary_above_avx2(const float *x, size_t n, const float *threshold, int count,
                                   float *sum, int64_t *number)
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

TARGET void qsdk_binary_code_avx2(const float *x, size_t n, const struct qsdk_binary_levels *levels,
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

#endif
