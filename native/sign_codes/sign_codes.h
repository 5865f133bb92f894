/* Rows of floats as sums of a few numbers, each with a sign of its own:
 *
 *   x[k] ~ sum over planes i of  alpha[i] * b_i[k],     b_i[k] = -1 or +1,  bits planes
 *
 * a = |x|; the signs of a negative x are those of a, all turned around. So codes belong to intervals
 * of a, and thresholds, from the lowest up, say where the next interval begins: the code of a is
 * that of interval number #{thresholds <= a}. The level of a code is its sum of +-alpha, from the
 * first plane to the last.
 *
 * Sums over a row of K elements are float32 of 16 lanes, lane l over elements l, l + 16, ..., then
 * the upper half of the lanes is added to the lower until one is left; rows of more than PIECE
 * elements in pieces, whose sums are added as doubles. Means are such a sum as a float, over K.
 * A row of which the sum of a, or in the end an alpha, is not finite has no codes: alpha NaN, all
 * signs 0.
 *
 * Start, one of
 *   greedy:   r = a; alpha[i] = mean r; r = |r - alpha[i]|; and so on.
 *   refined:  alpha[0] = mean a. Then for each plane more: every interval is cut at its own level, moved
 *             into the interval where it lies beside it, and the new plane is -1 below and +1 from
 *             there on; then all alphas are those of least squares.
 *   uniform:  alpha[i] = D * 2^(bits - 1 - i), which makes levels D, 3 D, 5 D, .. The error of D is
 *             (2 D)^2 * sum of (t - (q + 1/2))^2,   t = a * (0.5 / D),
 *             q = floor(min(t, 2^(bits - 1) - 1)), and no D is tried where D * 2^bits is not finite.
 *             Of the 4 bits candidates D[0] = mean a / (2^bits - 1), D[c] = D[c - 1] * 2^(1/2), which
 *             reach from the least D that can be best to about the greatest, the first of the least
 *             error; then of the best D and D * 2^(1/4), D * 2^(-1/4), then with 2^(+-1/8).
 * One plane always has the mean of a, and nothing below changes it.
 *
 * Codes of the start, one of
 *   nearest:  alphas sorted, largest first. The 2^(bits - 1) levels that begin with +alpha[0], negated
 *             with all their signs where below 0, sorted upwards; equal ones stay in the order of
 *             their signs, read as binary digits. Thresholds: v / 2 + v' / 2 of neighbours.
 *   its own:  greedy: each plane cuts the intervals as for refined. refined: as it found them.
 *
 * Cycles, each: alphas of least squares for these codes, then their magnitudes, as floats, are
 * the new alphas, with the nearest codes. Where planes depend on each other the alphas stay.
 * Final, if asked for: alphas of least squares for the last codes.
 * Normal form: a plane with alpha below 0 is turned around with it; largest first, equal ones stay.
 *
 * Least squares: normal equations from counts and sums of the elements at or above each threshold,
 * solved in double by elimination without pivoting. A plane whose pivot is below 1/1024 (of
 * integers) depends on those before it; where that does not stop a cycle it has alpha 0.
 */
#ifndef QSDK_SIGN_CODES_H
#define QSDK_SIGN_CODES_H

#include "kernel.h"

/* [cffi] */
struct qsdk_sign_codes;

enum { QSDK_SIGN_GREEDY, QSDK_SIGN_REFINED, QSDK_SIGN_UNIFORM };

/* bits     planes, 1 to 8
 * start    one of the above
 * nearest  1: codes of the start are the nearest; 0: its own
 * cycles   at least 0
 * final    1: least squares last */
typedef struct {
    int32_t bits, start, nearest, cycles, final;
} qsdk_sign_how;

/* The instruction set of this name; NULL where this build has none. */
const struct qsdk_sign_codes *qsdk_sign_codes_find(const char *set);

/* x: [rows][length]; alpha: [bits][rows]; planes: [bits][rows][words of 64 places], bit k of a row,
 * from the lowest of its first word up, is 1 for +1; 0 behind the last.
 * threads: at most so many, 0 for as many as the runtime would take */
void qsdk_sign_codes_rows(const struct qsdk_sign_codes *set, const float *x, size_t rows,
                          size_t length, const qsdk_sign_how *how, float *alpha, uint64_t *planes,
                          int threads);
/* [/cffi] */

enum { QSDK_SIGN_BITS = 8, QSDK_SIGN_LEVELS = 128, QSDK_SIGN_PIECE = 1 << 16 };

/* Alphas, thresholds, and the codes between them: signs[j] of interval j, bit i for plane i. */
struct qsdk_sign_levels {
    int planes, count; /* thresholds */
    float alpha[QSDK_SIGN_BITS], threshold[QSDK_SIGN_LEVELS];
    uint32_t signs[QSDK_SIGN_LEVELS];
};

/* The same as masks. Bit by bit, plane i is start[i], turned around by each threshold at or below a
 * that has flip[i] set, and once more where x < 0. */
struct qsdk_sign_masks {
    int planes, count;
    const float *threshold;
    uint64_t start[QSDK_SIGN_BITS], flip[QSDK_SIGN_BITS][QSDK_SIGN_LEVELS];
};

/* What a set brings along: passes over up to PIECE elements, or in `code` any number.
 *
 * residual  sum of | ..| |x| - alpha[0] | .. - alpha[count - 1] |
 * above     for each threshold: sum and number of the |x| at or above it
 * grid      sum of (t - (floor(min(t, top)) + 1/2))^2, t = |x| * inverse
 * code      word w of plane i goes to words[w * word_step + i * plane_step] */
struct qsdk_sign_codes {
    const char *name;
    float (*residual)(const float *x, size_t n, const float *alpha, int count);
    void (*above)(const float *x, size_t n, const float *threshold, int count, float *sum,
                  int64_t *number);
    float (*grid)(const float *x, size_t n, float inverse, float top);
    void (*code)(const float *x, size_t n, const struct qsdk_sign_masks *masks, uint64_t *words,
                 size_t word_step, size_t plane_step);
};

extern const struct qsdk_sign_codes qsdk_sign_codes_portable, qsdk_sign_codes_avx2,
    qsdk_sign_codes_avx512bw, qsdk_sign_codes_neon;

/* One row of n elements: alphas and words; 0 where it has no codes, and nothing is written. */
int qsdk_sign_codes_row_portable(const struct qsdk_sign_codes *set, const float *x, size_t n,
                                 const qsdk_sign_how *how, float *alpha, uint64_t *words,
                                 size_t word_step, size_t plane_step);

/* Steps on levels; levels.c. */

/* Sorts the alphas; thresholds and codes of the nearest. */
void qsdk_sign_nearest_portable(struct qsdk_sign_levels *levels);

/* One plane more, which cuts every interval; its alpha is still to be found. */
void qsdk_sign_cut_portable(struct qsdk_sign_levels *levels);

/* Least squares from number[j] and sum[j] of the elements of intervals j and above; both have one
 * more entry, of 0. Returns how many planes do not depend on others. */
int qsdk_sign_squares_portable(const struct qsdk_sign_levels *levels, const int64_t *number,
                               const double *sum, double *alpha);

void qsdk_sign_normal_portable(struct qsdk_sign_levels *levels);

void qsdk_sign_masks_portable(const struct qsdk_sign_levels *levels, struct qsdk_sign_masks *masks);

/* Shared by the sets, in portable C. */

#if defined(__clang__)
#define QSDK_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define QSDK_UNROLL _Pragma("GCC unroll 16")
#else
#define QSDK_UNROLL
#endif

/* One element's |..| |x| - alpha[0] |.. - alpha[count - 1]|. */
static inline float qsdk_sign_residual_portable(float x, const float *alpha, int count)
{
    float r = x < 0 ? -x : x;
    for (int i = 0; i < count; i++) {
        r -= alpha[i];
        r = r < 0 ? -r : r;
    }
    return r;
}

/* One element's squared distance, in steps, from the grid of halves. */
static inline float qsdk_sign_grid_portable(float x, float inverse, float top)
{
    const float t = (x < 0 ? -x : x) * inverse, inside = t < top ? t : top;
    const float error = t - ((float)(int)inside + 0.5f);
    return error * error;
}

/* 16 lanes to their sum. */
static inline float qsdk_sign_fold_portable(float *lane)
{
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            lane[l] += lane[l + half];
    return lane[0];
}

/* A word of each plane, from the words of the thresholds and of the signs; valid: places in use. */
static inline void qsdk_sign_words_portable(const struct qsdk_sign_masks *masks,
                                            const uint64_t *above, uint64_t negative,
                                            uint64_t valid, uint64_t *words, size_t plane_step)
{
    for (int i = 0; i < masks->planes; i++) {
        uint64_t plane = masks->start[i] ^ negative;
        for (int j = 0; j < masks->count; j++)
            plane ^= above[j] & masks->flip[i][j];
        words[(size_t)i * plane_step] = plane & valid;
    }
}

/* The lowest n places of a word, n from 1 to 64. */
static inline uint64_t qsdk_sign_valid_portable(size_t n)
{
    return n < 64 ? (UINT64_C(1) << n) - 1 : ~UINT64_C(0);
}

#endif
