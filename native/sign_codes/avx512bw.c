/* 16 elements a step, limited by the latency of adding to the one sum that the order of lanes
 * allows; so several thresholds go together. */
#include "sign_codes.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,popcnt")))

enum { TOGETHER = 8 }; /* thresholds */

/* The elements from k on, 16 at most, zeros behind the last. */
TARGET static inline __m512 load_avx512bw(const float *x, size_t n, size_t k, __mmask16 *valid)
{
    *valid = n - k < 16 ? (__mmask16)((1u << (n - k)) - 1) : (__mmask16)0xffff;
    return _mm512_maskz_loadu_ps(*valid, x + k);
}

TARGET static inline float fold_avx512bw(__m512 sum)
{
    float lane[16];
    _mm512_storeu_ps(lane, sum);
    return qsdk_sign_fold_portable(lane);
}

TARGET static float residual_avx512bw(const float *x, size_t n, const float *alpha, int count)
{
    __m512 sum = _mm512_setzero_ps();
    for (size_t k = 0; k < n; k += 16) {
        __mmask16 valid;
        __m512 r = _mm512_abs_ps(load_avx512bw(x, n, k, &valid));
        for (int i = 0; i < count; i++)
            r = _mm512_abs_ps(_mm512_sub_ps(r, _mm512_set1_ps(alpha[i])));
        sum = _mm512_mask_add_ps(sum, valid, sum, r);
    }
    return fold_avx512bw(sum);
}

/* At most TOGETHER thresholds. */
TARGET static inline __attribute__((always_inline)) void
few_above_avx512bw(const float *x, size_t n, const float *threshold, int count, float *sum,
                   int64_t *number)
{
    __m512 sums[TOGETHER];
    for (int j = 0; j < count; j++) {
        sums[j] = _mm512_setzero_ps();
        number[j] = 0;
    }
    for (size_t k = 0; k < n; k += 16) {
        __mmask16 valid;
        const __m512 a = _mm512_abs_ps(load_avx512bw(x, n, k, &valid));
        QSDK_UNROLL
        for (int j = 0; j < count; j++) {
            const __mmask16 is =
                _mm512_mask_cmp_ps_mask(valid, a, _mm512_set1_ps(threshold[j]), _CMP_GE_OQ);
            sums[j] = _mm512_mask_add_ps(sums[j], is, sums[j], a);
            number[j] += __builtin_popcount(is);
        }
    }
    for (int j = 0; j < count; j++)
        sum[j] = fold_avx512bw(sums[j]);
}

TARGET static void above_avx512bw(const float *x, size_t n, const float *threshold, int count,
                                  float *sum, int64_t *number)
{
    int j = 0;
    for (; count - j >= TOGETHER; j += TOGETHER)
        few_above_avx512bw(x, n, threshold + j, TOGETHER, sum + j, number + j);
    if (count - j == 1)
        few_above_avx512bw(x, n, threshold + j, 1, sum + j, number + j);
    else if (count - j == 3)
        few_above_avx512bw(x, n, threshold + j, 3, sum + j, number + j);
    else
        few_above_avx512bw(x, n, threshold + j, count - j, sum + j, number + j);
}

TARGET static float grid_avx512bw(const float *x, size_t n, float inverse, float top)
{
    const __m512 inverses = _mm512_set1_ps(inverse), tops = _mm512_set1_ps(top);
    __m512 sum = _mm512_setzero_ps();
    for (size_t k = 0; k < n; k += 16) {
        __mmask16 valid;
        const __m512 a = _mm512_abs_ps(load_avx512bw(x, n, k, &valid));
        const __m512 t = _mm512_mul_ps(a, inverses);
        /* of NaN and top, min gives top, as in plain C */
        const __m512 inside = _mm512_roundscale_ps(_mm512_min_ps(t, tops),
                                                   _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
        const __m512 error = _mm512_sub_ps(t, _mm512_add_ps(inside, _mm512_set1_ps(0.5f)));
        sum = _mm512_mask_add_ps(sum, valid, sum, _mm512_mul_ps(error, error));
    }
    return fold_avx512bw(sum);
}

TARGET static void code_avx512bw(const float *x, size_t n, const struct qsdk_sign_masks *masks,
                                 uint64_t *words, size_t word_step, size_t plane_step)
{
    for (size_t start = 0; start < n; start += 64, words += word_step) {
        const size_t here = n - start < 64 ? n - start : 64;
        uint64_t above[QSDK_SIGN_LEVELS], negative = 0;
        for (int j = 0; j < masks->count; j++)
            above[j] = 0;
        for (size_t k = 0; k < here; k += 16) {
            __mmask16 valid;
            const __m512 v = load_avx512bw(x + start, here, k, &valid), a = _mm512_abs_ps(v);
            const __m512 zero = _mm512_setzero_ps();
            negative |= (uint64_t)_mm512_cmp_ps_mask(v, zero, _CMP_LT_OQ) << k;
            for (int j = 0; j < masks->count; j++)
                above[j] |= (uint64_t)_mm512_cmp_ps_mask(a, _mm512_set1_ps(masks->threshold[j]),
                                                         _CMP_GE_OQ)
                            << k;
        }
        const uint64_t valid = qsdk_sign_valid_portable(here);
        qsdk_sign_words_portable(masks, above, negative, valid, words, plane_step);
    }
}

const struct qsdk_sign_codes qsdk_sign_codes_avx512bw = {
    .name = "avx512bw",
    .residual = residual_avx512bw,
    .above = above_avx512bw,
    .grid = grid_avx512bw,
    .code = code_avx512bw,
};

#endif
