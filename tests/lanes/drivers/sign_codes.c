/* Every instruction set of native/sign_codes that this CPU has, on rows of all kinds and every way to
 * code them, against element by element sums. An input is one row; each set gets at least 100,000. */
#include "driver.h"
#include "sign_oracle.h"

#include <float.h>

enum { ROWS = 24, LENGTH = 700, KINDS = 8, LONG_TRIALS = 512, TRIALS = 6500 };

static struct {
    size_t rows, length;
    qsdk_sign_how how;
    float x[ROWS][LONGEST];
} p;

static struct coded expected[ROWS];

static float uniform(void)
{
    return (float)draw(1 << 24) / (1 << 23) - 1;
}

static float one_value(int kind, size_t k)
{
    switch (kind) {
    case 0: /* bell-shaped */
        return uniform() + uniform() + uniform();
    case 1: /* ties, zeros of both signs */
        return (float)((int)draw(9) - 4) * (draw(2) ? 0.25f : -0.25f);
    case 2: /* two magnitudes: planes that depend on each other */
        return draw(2) ? 1 : -2;
    case 3:
        return draw(50) ? 0 : uniform();
    case 4: /* the largest floats: their sum is one, or is infinite */
        return draw(20) ? uniform() * 1e30f : uniform() * FLT_MAX / 16;
    case 5: /* below the smallest normal float */
        return uniform() * 1e-40f;
    case 6: /* every other 0: thresholds of 0 */
        return k % 2 ? 0 : (draw(2) ? 2.0f : -2.0f);
    default:
        return draw(200) ? uniform() * 5 : (float[]){NAN, INFINITY, -INFINITY}[draw(3)];
    }
}

static void draw_problem(size_t trial)
{
    p.length = trial < LONG_TRIALS ? trial : draw(130) + (draw(20) ? 0 : 500);
    p.rows = trial < LONG_TRIALS ? 8 : 10 + draw(ROWS - 9);
    if (trial % 3000 == 2999) { /* more than one piece */
        p.length = LONGEST - draw(100);
        p.rows = 2;
    }
    p.how = (qsdk_sign_how){
        .bits = 1 + (int)draw(draw(30) ? 4 : 8),
        .start = (int)draw(3),
        .nearest = (int)draw(2),
        .cycles = (int)draw(4),
        .final = (int)draw(2),
    };
    if (p.length > LENGTH)
        p.how.bits = 2;
    for (size_t m = 0; m < p.rows; m++) {
        const int kind = (int)draw(KINDS), same = (int)draw(20) == 0;
        for (size_t k = 0; k < p.length; k++)
            p.x[m][k] = same ? 0.5f : one_value(kind, k);
        oracle_code(p.x[m], p.length, &p.how, &expected[m]);
    }
}

static int right_row(size_t m, const float *alpha, const uint64_t *planes)
{
    const size_t words = (p.length + 63) / 64;
    int right = 1;
    for (size_t i = 0; i < (size_t)p.how.bits; i++) {
        const float found = alpha[i * p.rows + m];
        right &= expected[m].finite ? found == expected[m].alpha[i] && !signbit(found)
                                    : isnan(found) != 0;
        for (size_t k = 0; k < words * 64; k++) {
            const int bit = planes[(i * p.rows + m) * words + k / 64] >> k % 64 & 1;
            const int wanted = expected[m].finite && k < p.length && expected[m].sign[i][k] > 0;
            right &= bit == wanted;
        }
    }
    return right;
}

static void try_set(const char *name, long trial)
{
    const size_t words = (p.length + 63) / 64, bits = (size_t)p.how.bits;
    float *x = guarded(0, p.rows * p.length * sizeof *x);
    float *alpha = guarded(1, bits * p.rows * sizeof *alpha);
    uint64_t *planes = guarded(2, bits * p.rows * words * sizeof *planes);
    for (size_t m = 0; m < p.rows; m++)
        memcpy(x + m * p.length, p.x[m], p.length * sizeof *x);
    qsdk_sign_codes_rows(qsdk_sign_codes_find(name), x, p.rows, p.length, &p.how, alpha, planes,
                         1 + (int)draw(2));
    for (size_t m = 0; m < p.rows; m++)
        expect(right_row(m, alpha, planes), name, trial,
               1000 * p.how.bits + 100 * p.how.start + 10 * p.how.nearest + p.how.final,
               (long)p.length);
}

int main(void)
{
    static const struct {
        const char *name, *needs[2];
    } sets[] = {
        {"portable", {NULL}},
        {"avx2", {"avx2"}},
        {"avx512bw", {"avx512bw", "avx512dq"}},
        {"neon", {"neon"}},
    };
    enum { SETS = sizeof sets / sizeof *sets };
    size_t done[SETS] = {0};
    const char *missing[SETS] = {0};
    for (size_t s = 0; s < SETS; s++) {
        if (!qsdk_sign_codes_find(sets[s].name))
            missing[s] = "not in this build";
        for (int i = 0; i < 2 && sets[s].needs[i] && !missing[s]; i++)
            if (!has_feature(sets[s].needs[i]))
                missing[s] = sets[s].needs[i];
    }
    expect(!qsdk_sign_codes_find("nonsense"), "a set that does not exist", 0, 0, 0);
    for (size_t trial = 0; trial < TRIALS; trial++) {
        draw_problem(trial);
        for (size_t s = 0; s < SETS; s++)
            if (!missing[s]) {
                const size_t before = inputs;
                try_set(sets[s].name, (long)trial);
                done[s] += inputs - before;
            }
    }
    for (size_t s = 0; s < SETS; s++)
        if (missing[s])
            printf("%s skipped: %s\n", sets[s].name, missing[s]);
        else
            printf("%s %zu\n", sets[s].name, done[s]);
    return summary();
}
