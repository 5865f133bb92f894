/* The few numbers between two passes over a row: thresholds and codes from alphas, alphas from counts
 * and sums. */
#include "sign_codes.h"

#include <math.h>

struct code {
    float level;
    uint32_t signs; /* bit i: plane i is +1 */
};

/* Largest first; few, so by insertion, which keeps equal ones in order. */
static void sort_alphas_portable(float *alpha, int planes)
{
    for (int i = 1; i < planes; i++)
        for (int j = i; j > 0 && alpha[j - 1] < alpha[j]; j--) {
            const float larger = alpha[j];
            alpha[j] = alpha[j - 1];
            alpha[j - 1] = larger;
        }
}

static float level_portable(const struct qsdk_sign_levels *levels, uint32_t signs)
{
    float level = signs & 1 ? levels->alpha[0] : -levels->alpha[0];
    for (int i = 1; i < levels->planes; i++)
        level = signs >> i & 1 ? level + levels->alpha[i] : level - levels->alpha[i];
    return level;
}

/* The levels >= 0, upwards. */
static void sort_codes_portable(const struct qsdk_sign_levels *levels, struct code *code)
{
    const int planes = levels->planes;
    for (uint32_t m = 0; m < 1u << (planes - 1); m++) {
        struct code new = {0, 1};
        for (int i = 1; i < planes; i++)
            new.signs |= (m >> (planes - 1 - i) & 1) << i;
        new.level = level_portable(levels, new.signs);
        if (new.level < 0) {
            new.level = -new.level;
            new.signs ^= (1u << planes) - 1;
        }
        uint32_t place = m;
        for (; place > 0 && code[place - 1].level > new.level; place--)
            code[place] = code[place - 1];
        code[place] = new;
    }
}

void qsdk_sign_nearest_portable(struct qsdk_sign_levels *levels)
{
    struct code code[QSDK_SIGN_LEVELS];
    sort_alphas_portable(levels->alpha, levels->planes);
    sort_codes_portable(levels, code);
    levels->count = (1 << (levels->planes - 1)) - 1;
    for (int j = 0; j <= levels->count; j++)
        levels->signs[j] = code[j].signs;
    for (int j = 0; j < levels->count; j++)
        levels->threshold[j] = 0.5f * code[j].level + 0.5f * code[j + 1].level;
}

void qsdk_sign_cut_portable(struct qsdk_sign_levels *levels)
{
    const uint32_t plane = 1u << levels->planes;
    float high = INFINITY;
    for (int j = levels->count; j >= 0; j--) { /* from the top: what is written has been read */
        const float low = j ? levels->threshold[j - 1] : 0;
        const uint32_t signs = levels->signs[j];
        float cut = level_portable(levels, signs);
        cut = cut < low ? low : cut;
        cut = cut < high ? cut : high;
        levels->threshold[2 * j] = cut;
        if (j)
            levels->threshold[2 * j - 1] = low;
        levels->signs[2 * j] = signs;
        levels->signs[2 * j + 1] = signs | plane;
        high = low;
    }
    levels->count = 2 * levels->count + 1;
    levels->planes++;
}

/* Equations g alpha = d, g symmetric. */
static int solve_portable(double g[][QSDK_SIGN_BITS], double *d, int planes, double *alpha)
{
    int depends[QSDK_SIGN_BITS] = {0}, left = planes;
    for (int j = 0; j < planes; j++) {
        depends[j] = g[j][j] < 1.0 / 1024;
        left -= depends[j];
        for (int i = j + 1; i < planes && !depends[j]; i++) {
            const double factor = g[i][j] / g[j][j];
            for (int m = j + 1; m <= i; m++)
                g[i][m] -= factor * g[m][j];
            d[i] -= factor * d[j];
        }
    }
    for (int j = planes - 1; j >= 0; j--) {
        double sum = d[j];
        for (int i = j + 1; i < planes; i++)
            sum -= g[i][j] * alpha[i];
        alpha[j] = depends[j] ? 0 : sum / g[j][j];
    }
    return left;
}

int qsdk_sign_squares_portable(const struct qsdk_sign_levels *levels, const int64_t *number,
                               const double *sum, double *alpha)
{
    double g[QSDK_SIGN_BITS][QSDK_SIGN_BITS] = {{0}}, d[QSDK_SIGN_BITS] = {0};
    for (int t = 0; t <= levels->count; t++) {
        const double here = (double)(number[t] - number[t + 1]), part = sum[t] - sum[t + 1];
        const uint32_t signs = levels->signs[t];
        for (int i = 0; i < levels->planes; i++) {
            const uint32_t plus = signs >> i & 1;
            d[i] = plus ? d[i] + part : d[i] - part;
            for (int j = 0; j <= i; j++)
                g[i][j] += plus == (signs >> j & 1) ? here : -here;
        }
    }
    return solve_portable(g, d, levels->planes, alpha);
}

void qsdk_sign_normal_portable(struct qsdk_sign_levels *levels)
{
    float *alpha = levels->alpha;
    int order[QSDK_SIGN_BITS];
    uint32_t turned = 0;
    for (int i = 0; i < levels->planes; i++) {
        const float size = fabsf(alpha[i]);
        turned |= (uint32_t)(alpha[i] < 0) << i;
        int place = i;
        for (; place > 0 && alpha[place - 1] < size; place--) {
            alpha[place] = alpha[place - 1];
            order[place] = order[place - 1];
        }
        alpha[place] = size;
        order[place] = i;
    }
    for (int j = 0; j <= levels->count; j++) {
        const uint32_t signs = levels->signs[j] ^ turned;
        levels->signs[j] = 0;
        for (int i = 0; i < levels->planes; i++)
            levels->signs[j] |= (signs >> order[i] & 1) << i;
    }
}

void qsdk_sign_masks_portable(const struct qsdk_sign_levels *levels, struct qsdk_sign_masks *masks)
{
    const uint32_t *signs = levels->signs;
    masks->planes = levels->planes;
    masks->count = levels->count;
    masks->threshold = levels->threshold;
    for (int i = 0; i < levels->planes; i++) {
        masks->start[i] = UINT64_C(0) - (signs[0] >> i & 1);
        for (int j = 0; j < levels->count; j++)
            masks->flip[i][j] = UINT64_C(0) - ((signs[j] ^ signs[j + 1]) >> i & 1);
    }
}
