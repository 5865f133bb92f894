/* Coding a row, as the header says: passes over it by the instruction set, and in between the few
 * numbers that decide on the next pass. Limited by the latency of those passes; rows are coded in
 * parallel. */
#include "sign_codes.h"

#include <math.h>
#include <string.h>

struct row {
    const struct qsdk_sign_codes *set;
    const float *x;
    size_t n;
    double total; /* of |x| */
};

const struct qsdk_sign_codes *qsdk_sign_codes_find(const char *set)
{
    static const struct qsdk_sign_codes *const sets[] = {
        &qsdk_sign_codes_portable,
#if defined(__x86_64__) && defined(__GNUC__)
        &qsdk_sign_codes_avx2,
        &qsdk_sign_codes_avx512bw,
#elif defined(__aarch64__)
        &qsdk_sign_codes_neon,
#endif
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (!strcmp(sets[i]->name, set))
            return sets[i];
    return NULL;
}

/* Elements of the piece that begins at k. */
static size_t piece_portable(const struct row *row, size_t k)
{
    return row->n - k < QSDK_SIGN_PIECE ? row->n - k : QSDK_SIGN_PIECE;
}

static double residual_portable(const struct row *row, const float *alpha, int count)
{
    double sum = 0;
    for (size_t k = 0; k < row->n; k += QSDK_SIGN_PIECE)
        sum += (double)row->set->residual(row->x + k, piece_portable(row, k), alpha, count);
    return sum;
}

static int finite_portable(const float *value, int count)
{
    int finite = 1;
    for (int i = 0; i < count; i++)
        finite &= value[i] - value[i] == 0;
    return finite;
}

static float mean_portable(const struct row *row, double sum)
{
    return (float)sum / (row->n ? (float)row->n : 1.0f);
}

/* Least squares for these codes. */
static int squares_portable(const struct row *row, const struct qsdk_sign_levels *levels,
                            double *alpha)
{
    double sum[QSDK_SIGN_LEVELS + 1];
    int64_t number[QSDK_SIGN_LEVELS + 1];
    const int count = levels->count;
    for (int j = 0; j <= count; j++) {
        sum[j + 1] = 0;
        number[j + 1] = 0;
    }
    sum[0] = row->total;
    number[0] = (int64_t)row->n;
    for (size_t k = 0; k < row->n; k += QSDK_SIGN_PIECE) {
        float here[QSDK_SIGN_LEVELS];
        int64_t many[QSDK_SIGN_LEVELS];
        row->set->above(row->x + k, piece_portable(row, k), levels->threshold, count, here, many);
        for (int j = 0; j < count; j++) {
            sum[j + 1] += (double)here[j];
            number[j + 1] += many[j];
        }
    }
    return qsdk_sign_squares_portable(levels, number, sum, alpha);
}

/* Least squares also where planes depend on others. */
static void fit_portable(const struct row *row, struct qsdk_sign_levels *levels)
{
    double alpha[QSDK_SIGN_BITS];
    squares_portable(row, levels, alpha);
    for (int i = 0; i < levels->planes; i++)
        levels->alpha[i] = (float)alpha[i];
}

static void greedy_portable(const struct row *row, int bits, struct qsdk_sign_levels *levels)
{
    for (int i = 1; i < bits; i++) {
        const double sum = residual_portable(row, levels->alpha, i);
        qsdk_sign_cut_portable(levels);
        levels->alpha[i] = mean_portable(row, sum);
    }
}

static void refined_portable(const struct row *row, int bits, struct qsdk_sign_levels *levels)
{
    for (int i = 1; i < bits; i++) {
        qsdk_sign_cut_portable(levels);
        fit_portable(row, levels);
    }
}

/* The least error so far, and its D; a NaN is never less. */
struct best {
    float d;
    double error;
};

static void try_portable(const struct row *row, int bits, float d, struct best *best)
{
    const float top = (float)((1 << (bits - 1)) - 1), end = d * (float)(1 << bits);
    if (!finite_portable(&end, 1))
        return;
    double sum = 0;
    for (size_t k = 0; k < row->n; k += QSDK_SIGN_PIECE)
        sum += (double)row->set->grid(row->x + k, piece_portable(row, k), 0.5f / d, top);
    const double step = 2.0 * (double)d, error = step * step * sum;
    if (error < best->error) {
        best->d = d;
        best->error = error;
    }
}

static void uniform_portable(const struct row *row, int bits, struct qsdk_sign_levels *levels)
{
    static const float nearer[2][2] = {{1.18920708f, 0.840896428f}, {1.09050775f, 0.917004049f}};
    float d = levels->alpha[0] / (float)((1 << bits) - 1);
    struct best best = {d, INFINITY};
    for (int c = 0; c < 4 * bits; c++, d *= 1.41421354f)
        try_portable(row, bits, d, &best);
    for (int i = 0; i < 2; i++) {
        const float middle = best.d;
        try_portable(row, bits, middle * nearer[i][0], &best);
        try_portable(row, bits, middle * nearer[i][1], &best);
    }
    for (int i = 0; i < bits; i++)
        levels->alpha[i] = best.d * (float)(1 << (bits - 1 - i));
    levels->planes = bits;
}

static void start_portable(const struct row *row, const qsdk_sign_how *how,
                           struct qsdk_sign_levels *levels)
{
    levels->planes = 1;
    levels->count = 0;
    levels->signs[0] = 1;
    levels->alpha[0] = mean_portable(row, row->total);
    if (how->bits == 1)
        return;
    if (how->start == QSDK_SIGN_UNIFORM)
        uniform_portable(row, how->bits, levels);
    else if (how->start == QSDK_SIGN_REFINED)
        refined_portable(row, how->bits, levels);
    else
        greedy_portable(row, how->bits, levels);
    if (how->nearest || how->start == QSDK_SIGN_UNIFORM) {
        qsdk_sign_normal_portable(levels);
        qsdk_sign_nearest_portable(levels);
    }
}

static void cycle_portable(const struct row *row, struct qsdk_sign_levels *levels)
{
    double alpha[QSDK_SIGN_BITS];
    if (squares_portable(row, levels, alpha) == levels->planes)
        for (int i = 0; i < levels->planes; i++)
            levels->alpha[i] = (float)fabs(alpha[i]);
    else
        qsdk_sign_normal_portable(levels);
    qsdk_sign_nearest_portable(levels);
}

int qsdk_sign_codes_row_portable(const struct qsdk_sign_codes *set, const float *x, size_t n,
                                 const qsdk_sign_how *how, float *alpha, uint64_t *words,
                                 size_t word_step, size_t plane_step)
{
    struct row row = {set, x, n, 0};
    struct qsdk_sign_levels levels;
    struct qsdk_sign_masks masks;
    row.total = residual_portable(&row, NULL, 0);
    const float sum = (float)row.total;
    if (!finite_portable(&sum, 1))
        return 0;
    start_portable(&row, how, &levels);
    for (int32_t cycle = 0; cycle < how->cycles && how->bits > 1; cycle++)
        cycle_portable(&row, &levels);
    if (how->final && how->bits > 1)
        fit_portable(&row, &levels);
    if (!finite_portable(levels.alpha, how->bits))
        return 0;
    qsdk_sign_normal_portable(&levels);
    qsdk_sign_masks_portable(&levels, &masks);
    memcpy(alpha, levels.alpha, (size_t)how->bits * sizeof *alpha);
    set->code(x, n, &masks, words, word_step, plane_step);
    return 1;
}

/* Row m of the planes. */
static void row_portable(const struct qsdk_sign_codes *set, const float *x, size_t m, size_t rows,
                         size_t length, const qsdk_sign_how *how, float *alpha, uint64_t *planes)
{
    const size_t words = (length + 63) / 64;
    float found[QSDK_SIGN_BITS];
    uint64_t *to = planes + m * words;
    const int whole = qsdk_sign_codes_row_portable(set, x + m * length, length, how, found, to, 1,
                                                   rows * words);
    for (size_t i = 0; i < (size_t)how->bits; i++) {
        alpha[i * rows + m] = whole ? found[i] : NAN;
        if (!whole)
            memset(to + i * rows * words, 0, words * sizeof *to);
    }
}

void qsdk_sign_codes_rows(const struct qsdk_sign_codes *set, const float *x, size_t rows,
                          size_t length, const qsdk_sign_how *how, float *alpha, uint64_t *planes,
                          int threads)
{
    const double passes = (2 + how->cycles) * (double)(1 << how->bits);
    const double ns = (double)rows * ((double)length * passes / 16 + 200);
    const int use = qsdk_threads_portable(threads, ns);
    const long count = (long)rows;
#pragma omp parallel for schedule(static) num_threads(use) if (use > 1)
    for (long m = 0; m < count; m++)
        row_portable(set, x, (size_t)m, rows, length, how, alpha, planes);
    (void)use;
}
