/* Recurrent layers on seeded inputs: gates against the functions of the C library in double, whole
 * sequences against a plain loop over them, each set against the portable one to the bit. */
#include "driver.h"
#include "recurrent.h"

#include <math.h>

enum { TRIALS = 400, HIDDEN = 40, INPUTS = 9, STEPS = 30, BATCH = 150, GATES = 4 };

/* The layer, whose products are plain sums in double. */
struct matrix {
    size_t rows, columns, scratch;
    float weight[GATES * HIDDEN + 3][HIDDEN];
};

static struct problem {
    int kind, backwards, has_lengths;
    size_t gates, hidden, inputs, steps, batch;
    float clip;
    struct matrix of_x, of_h[2];
    size_t start[3];
    float x[STEPS * BATCH * INPUTS], h[BATCH * HIDDEN], c[BATCH * HIDDEN];
    float y[STEPS][BATCH * HIDDEN], last_h[BATCH * HIDDEN], last_c[BATCH * HIDDEN];
    int64_t lengths[BATCH];
} p;

static float uniform(void)
{
    return (float)draw(1 << 24) / (1 << 23) - 1;
}

/* A qsdk_run; it fills its scratch, which must be there. */
static void multiply(const void *layer, const void *x, size_t rows, void *y, void *scratch,
                     int threads)
{
    const struct matrix *matrix = layer;
    (void)threads;
    memset(scratch, 0x33, matrix->scratch * rows);
    for (size_t m = 0; m < rows; m++)
        for (size_t n = 0; n < matrix->rows; n++) {
            double sum = 0;
            for (size_t k = 0; k < matrix->columns; k++)
                sum += (double)matrix->weight[n][k] *
                       (double)((const float *)x)[m * matrix->columns + k];
            ((float *)y)[m * matrix->rows + n] = (float)sum;
        }
}

/* Oracle. */

static double held(double x)
{
    return x > (double)p.clip ? (double)p.clip : x < -(double)p.clip ? -(double)p.clip : x;
}

static double sigmoid(double x)
{
    return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x));
}

static double product(const struct matrix *matrix, size_t start, size_t n, const float *x)
{
    double sum = 0;
    for (size_t k = 0; k < matrix->columns; k++)
        sum += (double)matrix->weight[start + n][k] * (double)x[k];
    return sum;
}

static void oracle_step(size_t t, size_t b)
{
    const float *x = p.x + (t * p.batch + b) * p.inputs;
    float *h = p.last_h + b * p.hidden, *c = p.last_c + b * p.hidden;
    float reset[HIDDEN], new_h[HIDDEN];
    double a[GATES][HIDDEN], r[GATES][HIDDEN];
    const size_t first = p.kind == QSDK_GRU ? 2 : p.gates;
    for (size_t u = 0; u < p.hidden; u++) {
        for (size_t g = 0; g < p.gates; g++)
            a[g][u] = product(&p.of_x, p.start[0], g * p.hidden + u, x);
        for (size_t g = 0; g < first; g++)
            r[g][u] = product(&p.of_h[0], p.start[1], g * p.hidden + u, h);
    }
    for (size_t u = 0; u < p.hidden; u++)
        reset[u] = (float)(sigmoid(held(a[1][u] + r[1][u])) * (double)h[u]);
    for (size_t u = 0; u < p.hidden; u++)
        if (p.kind == QSDK_LSTM) {
            c[u] = (float)(sigmoid(held(a[2][u] + r[2][u])) * (double)c[u] +
                           sigmoid(held(a[0][u] + r[0][u])) * tanh(held(a[3][u] + r[3][u])));
            new_h[u] = (float)(sigmoid(held(a[1][u] + r[1][u])) * tanh((double)c[u]));
        } else {
            const double z = sigmoid(held(a[0][u] + r[0][u]));
            const double inner = p.kind == QSDK_GRU
                                     ? product(&p.of_h[1], p.start[2], u, reset)
                                     : sigmoid(held(a[1][u] + r[1][u])) * r[2][u];
            new_h[u] = (float)((1 - z) * tanh(held(a[2][u] + inner)) + z * (double)h[u]);
        }
    memcpy(h, new_h, p.hidden * sizeof *h);
}

static void oracle(void)
{
    memcpy(p.last_h, p.h, sizeof p.h);
    memcpy(p.last_c, p.c, sizeof p.c);
    for (size_t i = 0; i < p.steps; i++) {
        const size_t t = p.backwards ? p.steps - 1 - i : i;
        for (size_t b = 0; b < p.batch; b++) {
            const int goes_on = !p.has_lengths || (int64_t)t < p.lengths[b];
            if (goes_on)
                oracle_step(t, b);
            for (size_t u = 0; u < p.hidden; u++)
                p.y[t][b * p.hidden + u] = goes_on ? p.last_h[b * p.hidden + u] : 0;
        }
    }
}

static size_t draw_matrix(struct matrix *matrix, size_t rows, size_t columns)
{
    const size_t start = draw(4);
    matrix->rows = rows + start + draw((uint32_t)(4 - start));
    matrix->columns = columns;
    matrix->scratch = draw(200);
    for (size_t n = 0; n < matrix->rows; n++)
        for (size_t k = 0; k < columns; k++)
            matrix->weight[n][k] = uniform();
    return start;
}

static void draw_problem(void)
{
    p.kind = (int)draw(3);
    p.backwards = (int)draw(2);
    p.has_lengths = (int)draw(2);
    p.gates = p.kind == QSDK_LSTM ? 4 : 3;
    p.hidden = 1 + draw(draw(3) ? 12 : HIDDEN);
    p.inputs = 1 + draw(INPUTS);
    p.steps = draw(draw(4) ? 6 : STEPS + 1);
    p.batch = draw(draw(8) ? 5 : BATCH + 1);
    if (p.steps * p.batch > 300)
        p.batch = 300 / p.steps;
    p.clip = draw(2) ? INFINITY : 0.5f;
    p.start[0] = draw_matrix(&p.of_x, p.gates * p.hidden, p.inputs);
    p.start[1] = draw_matrix(&p.of_h[0], (p.kind == QSDK_GRU ? 2 : p.gates) * p.hidden, p.hidden);
    p.start[2] = draw_matrix(&p.of_h[1], p.hidden, p.hidden);
    for (size_t i = 0; i < p.steps * p.batch * p.inputs; i++)
        p.x[i] = uniform();
    for (size_t i = 0; i < p.batch * p.hidden; i++)
        p.h[i] = uniform(), p.c[i] = 2 * uniform();
    for (size_t b = 0; b < p.batch; b++)
        p.lengths[b] = draw((uint32_t)p.steps + 1);
    oracle();
}

/* Subject. */

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static int near(const float *found, const float *expected, size_t n)
{
    int right = 1;
    for (size_t i = 0; i < n; i++)
        right &= fabsf(found[i] - expected[i]) <= 2e-4f;
    return right;
}

/* y and then h and c of the first set, for the others to equal. */
static float portable_y[STEPS * BATCH * HIDDEN], portable_h[BATCH * HIDDEN],
    portable_c[BATCH * HIDDEN];

static void try_sequence(const struct qsdk_recurrent_set *set, int is_first, long trial)
{
    const qsdk_recurrent layer = {
        .set = set,
        .kind = p.kind,
        .backwards = p.backwards,
        .hidden = p.hidden,
        .clip = p.clip,
        .inputs = {multiply, &p.of_x, p.start[0], p.of_x.rows},
        .states = {{multiply, &p.of_h[0], p.start[1], p.of_h[0].rows},
                   {multiply, &p.of_h[1], p.start[2], p.of_h[1].rows}},
    };
    const size_t units = p.batch * p.hidden, apart = units + draw(3), state = units * sizeof(float);
    float *x = guarded(0, p.steps * p.batch * p.inputs * sizeof *x);
    float *h = guarded(1, state), *c = guarded(2, p.kind == QSDK_LSTM ? state : 0);
    float *y = guarded(3, (p.steps ? (p.steps - 1) * apart + units : 0) * sizeof *y);
    int64_t *lengths = guarded(4, p.batch * sizeof *lengths);
    const size_t needs = most(p.of_x.scratch * qsdk_recurrent_rows(p.steps, p.batch),
                              p.batch * most(p.of_h[0].scratch, p.of_h[1].scratch));
    char *scratch =
        guarded(5, (qsdk_recurrent_scratch(&layer, p.steps, p.batch) + needs + 63) / 64 * 64);
    memcpy(x, p.x, p.steps * p.batch * p.inputs * sizeof *x);
    memcpy(h, p.h, state);
    memcpy(c, p.c, p.kind == QSDK_LSTM ? state : 0);
    memcpy(lengths, p.lengths, p.batch * sizeof *lengths);
    qsdk_recurrent_run(&layer, x, p.inputs * sizeof *x, p.steps, p.batch,
                       p.has_lengths ? lengths : NULL, h, c, draw(8) || is_first ? y : (y = NULL),
                       apart, scratch, 1 + (int)draw(2));
    int right = near(h, p.last_h, units);
    right &= p.kind != QSDK_LSTM || near(c, p.last_c, units);
    for (size_t t = 0; y && t < p.steps; t++) {
        right &= near(y + t * apart, p.y[t], units);
        if (is_first)
            memcpy(portable_y + t * units, y + t * apart, state);
        right &= !memcmp(portable_y + t * units, y + t * apart, state);
    }
    if (is_first) {
        memcpy(portable_h, h, state);
        memcpy(portable_c, c, p.kind == QSDK_LSTM ? state : 0);
    }
    right &= !memcmp(portable_h, h, state);
    right &= p.kind != QSDK_LSTM || !memcmp(portable_c, c, state);
    expect(right, set->name, trial, p.kind, (long)p.hidden);
}

/* Units of the last place of a float near x. */
static double last_place(double x)
{
    int exponent;
    frexp(x, &exponent);
    return ldexp(1, exponent < -125 ? -149 : exponent - 24);
}

static void try_gates(const struct qsdk_recurrent_set *set, size_t n)
{
    float *x = guarded(0, n * sizeof *x), *y = guarded(1, n * sizeof *y);
    float *twin = guarded(2, n * sizeof *twin);
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = draw(2) ? draw(UINT32_MAX) : 0x38000000 + draw(0x0ad00000) + (draw(2) << 31);
        memcpy(x + i, &bits, sizeof bits);
    }
    for (int is_tanh = 0; is_tanh < 2; is_tanh++) {
        int right = 1;
        (is_tanh ? set->tanh : set->sigmoid)(x, n, y);
        (is_tanh ? qsdk_recurrent_portable.tanh : qsdk_recurrent_portable.sigmoid)(x, n, twin);
        for (size_t i = 0; i < n; i++) {
            const double exact = is_tanh ? tanh((double)x[i]) : sigmoid((double)x[i]);
            right &= isnan(x[i]) ? isnan(y[i]) && isnan(twin[i])
                                 : !memcmp(y + i, twin + i, sizeof *y) &&
                                       fabs((double)y[i] - exact) <= 2.5 * last_place(exact);
        }
        expect(right, set->name, is_tanh, (long)n, 0);
    }
}

int main(void)
{
    const struct qsdk_recurrent_set *sets[4] = {&qsdk_recurrent_portable}, *set;
    size_t count = 1;
    for (uint32_t i = 0; (set = qsdk_recurrent_set(i)) && set != sets[0]; i++) {
        char words[80], *missing = NULL;
        snprintf(words, sizeof words, "%s", set->features);
        for (char *word = strtok(words, " "); word && !missing; word = strtok(NULL, " "))
            missing = has_feature(word) ? NULL : word;
        if (missing)
            printf("%s skipped: %s\n", set->name, missing);
        else
            sets[count++] = set;
    }
    for (size_t s = 0; s < count; s++)
        for (size_t n = 0; n < 300; n++)
            try_gates(sets[s], n);
    for (long trial = 0; trial < TRIALS; trial++) {
        draw_problem();
        for (size_t s = 0; s < count; s++)
            try_sequence(sets[s], s == 0, trial);
    }
    return summary();
}
