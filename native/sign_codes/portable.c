/* Plain C: the passes of sign_codes.h, one element after the other. */
#include "sign_codes.h"

enum { LANES = 16 };

static float residual_portable(const float *x, size_t n, const float *alpha, int count)
{
    float lane[LANES] = {0};
    for (size_t k = 0; k < n; k++)
        lane[k % LANES] += qsdk_sign_residual_portable(x[k], alpha, count);
    return qsdk_sign_fold_portable(lane);
}

static void above_portable(const float *x, size_t n, const float *threshold, int count, float *sum,
                           int64_t *number)
{
    for (int j = 0; j < count; j++) {
        float lane[LANES] = {0};
        number[j] = 0;
        for (size_t k = 0; k < n; k++) {
            const float a = x[k] < 0 ? -x[k] : x[k];
            lane[k % LANES] += a >= threshold[j] ? a : 0;
            number[j] += a >= threshold[j];
        }
        sum[j] = qsdk_sign_fold_portable(lane);
    }
}

static float grid_portable(const float *x, size_t n, float inverse, float top)
{
    float lane[LANES] = {0};
    for (size_t k = 0; k < n; k++)
        lane[k % LANES] += qsdk_sign_grid_portable(x[k], inverse, top);
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
