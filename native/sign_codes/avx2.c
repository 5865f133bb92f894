/* 16 elements a step, limited by the latency of adding to the one sum that the order of lanes
 * allows. */
#include "sign_codes.h"

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
    return qsdk_sign_fold_portable(lane);
}

/* Both halves of the sum, and what the elements behind the last whole step add to them. */
TARGET static inline float total_avx2(const __m256 *sum, const float *last)
{
    const __m256 both[2] = {_mm256_add_ps(sum[0], _mm256_loadu_ps(last)),
                            _mm256_add_ps(sum[1], _mm256_loadu_ps(last + 8))};
    return fold_avx2(both);
}

TARGET static float residual_avx2(const float *x, size_t n, const float *alpha, int count)
{
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    float last[16] = {0};
    const size_t whole = n / 16 * 16;
    for (size_t k = whole; k < n; k++)
        last[k - whole] = qsdk_sign_residual_portable(x[k], alpha, count);
    for (size_t k = 0; k < whole; k += 16)
        for (int h = 0; h < 2; h++) {
            __m256 r = abs_avx2(_mm256_loadu_ps(x + k + 8 * h));
            for (int i = 0; i < count; i++)
                r = abs_avx2(_mm256_sub_ps(r, _mm256_set1_ps(alpha[i])));
            sum[h] = _mm256_add_ps(sum[h], r);
        }
    return total_avx2(sum, last);
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

TARGET static void above_avx2(const float *x, size_t n, const float *threshold, int count,
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

TARGET static float grid_avx2(const float *x, size_t n, float inverse, float top)
{
    const __m256 inverses = _mm256_set1_ps(inverse), tops = _mm256_set1_ps(top);
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    float last[16] = {0};
    const size_t whole = n / 16 * 16;
    for (size_t k = whole; k < n; k++)
        last[k - whole] = qsdk_sign_grid_portable(x[k], inverse, top);
    for (size_t k = 0; k < whole; k += 16)
        for (int h = 0; h < 2; h++) {
            const __m256 t = _mm256_mul_ps(abs_avx2(_mm256_loadu_ps(x + k + 8 * h)), inverses);
            /* of NaN and top, min gives top, as in plain C */
            const __m256 inside = _mm256_floor_ps(_mm256_min_ps(t, tops));
            const __m256 error = _mm256_sub_ps(t, _mm256_add_ps(inside, _mm256_set1_ps(0.5f)));
            sum[h] = _mm256_add_ps(sum[h], _mm256_mul_ps(error, error));
        }
    return total_avx2(sum, last);
}

/* 64 elements. */
TARGET static inline void code_64_avx2(const float *x, uint64_t valid,
                                       const struct qsdk_sign_masks *masks, uint64_t *words,
                                       size_t plane_step)
{
    uint64_t above[QSDK_SIGN_LEVELS], negative = 0;
    for (int j = 0; j < masks->count; j++)
        above[j] = 0;
    for (int k = 0; k < 64; k += 8) {
        const __m256 v = _mm256_loadu_ps(x + k), a = abs_avx2(v);
        const __m256 less = _mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_LT_OQ);
        negative |= (uint64_t)(unsigned)_mm256_movemask_ps(less) << k;
        for (int j = 0; j < masks->count; j++) {
            const __m256 is = _mm256_cmp_ps(a, _mm256_set1_ps(masks->threshold[j]), _CMP_GE_OQ);
            above[j] |= (uint64_t)(unsigned)_mm256_movemask_ps(is) << k;
        }
    }
    qsdk_sign_words_portable(masks, above, negative, valid, words, plane_step);
}

TARGET static void code_avx2(const float *x, size_t n, const struct qsdk_sign_masks *masks,
                             uint64_t *words, size_t word_step, size_t plane_step)
{
    size_t start = 0;
    for (; n - start >= 64; start += 64, words += word_step)
        code_64_avx2(x + start, ~UINT64_C(0), masks, words, plane_step);
    if (start < n) {
        float last[64] = {0};
        memcpy(last, x + start, (n - start) * sizeof *x);
        code_64_avx2(last, qsdk_sign_valid_portable(n - start), masks, words, plane_step);
    }
}

const struct qsdk_sign_codes qsdk_sign_codes_avx2 = {
    .name = "avx2",
    .residual = residual_avx2,
    .above = above_avx2,
    .grid = grid_avx2,
    .code = code_avx2,
};

#endif
