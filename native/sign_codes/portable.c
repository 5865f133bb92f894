/* Plain C: the passes of sign_codes.h, 16 elements a step, which compilers make vectors of. */
#include "sign_codes.h"

enum { LANES = 16 };

static float residual_portable(const float *x, size_t n, const float *alpha, int count)
{
    float lane[LANES] = {0};
    const size_t whole = n / LANES * LANES;
    for (size_t k = 0; k < whole; k += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += qsdk_sign_residual_portable(x[k + l], alpha, count);
    for (size_t k = whole; k < n; k++)
        lane[k - whole] += qsdk_sign_residual_portable(x[k], alpha, count);
    return qsdk_sign_fold_portable(lane);
}

/* Of one element: itself, or 0, to its lane, and 1 or 0 to its count. */
static inline void above_one_portable(float x, float threshold, float *lane, int32_t *number)
{
    const float a = x < 0 ? -x : x;
    *lane += a >= threshold ? a : 0;
    *number += a >= threshold;
}

static void above_portable(const float *x, size_t n, const float *threshold, int count, float *sum,
                           int64_t *number)
{
    const size_t whole = n / LANES * LANES;
    for (int j = 0; j < count; j++) {
        float lane[LANES] = {0};
        int32_t many[LANES] = {0};
        for (size_t k = 0; k < whole; k += LANES)
            for (size_t l = 0; l < LANES; l++)
                above_one_portable(x[k + l], threshold[j], lane + l, many + l);
        for (size_t k = whole; k < n; k++)
            above_one_portable(x[k], threshold[j], lane + k - whole, many + k - whole);
        sum[j] = qsdk_sign_fold_portable(lane);
        number[j] = 0;
        for (int l = 0; l < LANES; l++)
            number[j] += many[l];
    }
}

static float grid_portable(const float *x, size_t n, float inverse, float top)
{
    float lane[LANES] = {0};
    const size_t whole = n / LANES * LANES;
    for (size_t k = 0; k < whole; k += LANES)
        for (size_t l = 0; l < LANES; l++)
            lane[l] += qsdk_sign_grid_portable(x[k + l], inverse, top);
    for (size_t k = whole; k < n; k++)
        lane[k - whole] += qsdk_sign_grid_portable(x[k], inverse, top);
    return qsdk_sign_fold_portable(lane);
}

static void code_portable(const float *x, size_t n, const struct qsdk_sign_masks *masks,
                          uint64_t *words, size_t word_step, size_t plane_step)
{
    for (size_t start = 0; start < n; start += 64, words += word_step) {
        const size_t here = n - start < 64 ? n - start : 64;
        uint64_t above[QSDK_SIGN_LEVELS], negative = 0;
        for (int j = 0; j < masks->count; j++)
            above[j] = 0;
        for (size_t k = 0; k < here; k++) {
            const float a = x[start + k] < 0 ? -x[start + k] : x[start + k];
            negative |= (uint64_t)(x[start + k] < 0) << k;
            for (int j = 0; j < masks->count; j++)
                above[j] |= (uint64_t)(a >= masks->threshold[j]) << k;
        }
        const uint64_t valid = qsdk_sign_valid_portable(here);
        qsdk_sign_words_portable(masks, above, negative, valid, words, plane_step);
    }
}

const struct qsdk_sign_codes qsdk_sign_codes_portable = {
    .name = "portable",
    .residual = residual_portable,
    .above = above_portable,
    .grid = grid_portable,
    .code = code_portable,
};
