/* 16 elements a step, limited by the latency of adding to the one sum that the order of lanes
 * allows. */
#include "sign_codes.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

enum { VECTORS = 4 };

static inline float fold_neon(const float32x4_t *sum)
{
    float lane[16];
    for (int q = 0; q < VECTORS; q++)
        vst1q_f32(lane + 4 * q, sum[q]);
    return qsdk_sign_fold_portable(lane);
}

/* The sum, and what the elements behind the last whole step add to it. */
static inline float total_neon(float32x4_t *sum, const float *last)
{
    for (int q = 0; q < VECTORS; q++)
        sum[q] = vaddq_f32(sum[q], vld1q_f32(last + 4 * q));
    return fold_neon(sum);
}

static float residual_neon(const float *x, size_t n, const float *alpha, int count)
{
    float32x4_t sum[VECTORS] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    float last[16] = {0};
    const size_t whole = n / 16 * 16;
    for (size_t k = whole; k < n; k++)
        last[k - whole] = qsdk_sign_residual_portable(x[k], alpha, count);
    for (size_t k = 0; k < whole; k += 16)
        for (int q = 0; q < VECTORS; q++) {
            float32x4_t r = vabsq_f32(vld1q_f32(x + k + 4 * q));
            for (int i = 0; i < count; i++)
                r = vabsq_f32(vsubq_f32(r, vdupq_n_f32(alpha[i])));
            sum[q] = vaddq_f32(sum[q], r);
        }
    return total_neon(sum, last);
}

/* Sum and number of 16 magnitudes at or above the threshold. */
static inline uint32x4_t above_16_neon(const float *x, float32x4_t threshold, float32x4_t *sum,
                                       uint32x4_t number)
{
    for (int q = 0; q < VECTORS; q++) {
        const float32x4_t a = vabsq_f32(vld1q_f32(x + 4 * q));
        const uint32x4_t is = vcgeq_f32(a, threshold);
        sum[q] = vaddq_f32(sum[q], vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a), is)));
        number = vsubq_u32(number, is);
    }
    return number;
}

static void above_neon(const float *x, size_t n, const float *threshold, int count, float *sum,
                       int64_t *number)
{
    const size_t whole = n / 16 * 16;
    float last[16] = {0};
    memcpy(last, x + whole, (n - whole) * sizeof *x);
    for (int j = 0; j < count; j++) {
        const float32x4_t limit = vdupq_n_f32(threshold[j]);
        float32x4_t sums[VECTORS] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0),
                                     vdupq_n_f32(0)};
        uint32x4_t found = vdupq_n_u32(0);
        for (size_t k = 0; k < whole; k += 16)
            found = above_16_neon(x + k, limit, sums, found);
        found = above_16_neon(last, limit, sums, found);
        number[j] = (int64_t)vaddvq_u32(found);
        if (0 >= threshold[j]) /* so were the zeros behind the last */
            number[j] -= (int64_t)(16 - (n - whole));
        sum[j] = fold_neon(sums);
    }
}

static float grid_neon(const float *x, size_t n, float inverse, float top)
{
    const float32x4_t tops = vdupq_n_f32(top), half = vdupq_n_f32(0.5f);
    float32x4_t sum[VECTORS] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    float last[16] = {0};
    const size_t whole = n / 16 * 16;
    for (size_t k = whole; k < n; k++)
        last[k - whole] = qsdk_sign_grid_portable(x[k], inverse, top);
    for (size_t k = 0; k < whole; k += 16)
        for (int q = 0; q < VECTORS; q++) {
            const float32x4_t t = vmulq_n_f32(vabsq_f32(vld1q_f32(x + k + 4 * q)), inverse);
            /* not vminq: of NaN and top, plain C takes top */
            const float32x4_t inside = vrndmq_f32(vbslq_f32(vcltq_f32(t, tops), t, tops));
            const float32x4_t error = vsubq_f32(t, vaddq_f32(inside, half));
            sum[q] = vaddq_f32(sum[q], vmulq_f32(error, error));
        }
    return total_neon(sum, last);
}

/* 64 truth values of 32 bits to the bits of a word, the first lowest. */
static inline uint64_t bits_neon(const uint32x4_t *is)
{
    static const uint32_t place[4] = {1, 2, 4, 8};
    const uint32x4_t places = vld1q_u32(place);
    uint64_t word = 0;
    for (int q = 0; q < 16; q++)
        word |= (uint64_t)vaddvq_u32(vandq_u32(is[q], places)) << 4 * q;
    return word;
}

static inline void code_64_neon(const float *x, uint64_t valid, const struct qsdk_sign_masks *masks,
                                uint64_t *words, size_t plane_step)
{
    uint64_t above[QSDK_SIGN_LEVELS];
    uint32x4_t is[16];
    for (int q = 0; q < 16; q++)
        is[q] = vcltq_f32(vld1q_f32(x + 4 * q), vdupq_n_f32(0));
    const uint64_t negative = bits_neon(is);
    for (int j = 0; j < masks->count; j++) {
        for (int q = 0; q < 16; q++)
            is[q] = vcgeq_f32(vabsq_f32(vld1q_f32(x + 4 * q)), vdupq_n_f32(masks->threshold[j]));
        above[j] = bits_neon(is);
    }
    qsdk_sign_words_portable(masks, above, negative, valid, words, plane_step);
}

static void code_neon(const float *x, size_t n, const struct qsdk_sign_masks *masks,
                      uint64_t *words, size_t word_step, size_t plane_step)
{
    size_t start = 0;
    for (; n - start >= 64; start += 64, words += word_step)
        code_64_neon(x + start, ~UINT64_C(0), masks, words, plane_step);
    if (start < n) {
        float last[64] = {0};
        memcpy(last, x + start, (n - start) * sizeof *x);
        code_64_neon(last, qsdk_sign_valid_portable(n - start), masks, words, plane_step);
    }
}

const struct qsdk_sign_codes qsdk_sign_codes_neon = {
    .name = "neon",
    .residual = residual_neon,
    .above = above_neon,
    .grid = grid_neon,
    .code = code_neon,
};

#endif
