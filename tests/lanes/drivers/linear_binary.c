/* Every instruction set of native/linear_binary that this CPU has, on whole calls, against digit by
 * digit sums. An input is one row of a call; each set gets at least 100,000. */
#include "driver.h"
#include "linear_binary.h"
#include "sign_oracle.h"

#include <float.h>

#ifdef QSDK_LINEAR_BINARY_AMX
#include "linear_binary_amx.h"
#endif

enum { OUTPUTS = 140, LENGTH = 700, FEW_ROWS = 20, MOST_ROWS = 80, PLANES = 4, KINDS = 8 };
enum { LONG_TRIALS = 512, TRIALS = 4500 };

struct problem { /* a layer, digit by digit, and what goes into it */
    int parts, planes, bits, cycles;
    size_t outputs, length, group, groups, rows;
    int8_t digit[PLANES][OUTPUTS][LENGTH];
    float alpha[PLANES][OUTPUTS][LENGTH / 64 + 1], bias[OUTPUTS], low, high;
    int has_bias;
    float x[MOST_ROWS][LENGTH], y[MOST_ROWS][OUTPUTS];
};

static struct problem p;
static struct coded codes[MOST_ROWS];

/* Oracle. */

static float term(const struct coded *coded, size_t plane, size_t n, size_t g)
{
    const int8_t *digit = p.digit[plane][n];
    const size_t first = g * p.group, beyond = first + p.group;
    const size_t last = beyond < p.length ? beyond : p.length;
    float t = 0;
    for (int j = 0; j < p.bits; j++) {
        long dot = 0;
        for (size_t k = first; k < last; k++)
            dot += digit[k] * coded->sign[j][k];
        t += coded->alpha[j] * (float)dot;
    }
    return t;
}

static float float_term(const float *x, size_t plane, size_t n, size_t g)
{
    const size_t first = g * p.group, beyond = first + p.group;
    const size_t last = beyond < p.length ? beyond : p.length;
    float t = 0;
    for (size_t k = first; k < last; k += 4) {
        float plus[4] = {0}, minus[4] = {0};
        for (size_t i = 0; i < 4 && k + i < last; i++) {
            const int digit = p.digit[plane][n][k + i];
            if (p.parts == 1)
                plus[i] = digit > 0 ? x[k + i] : -x[k + i];
            else
                plus[i] = digit > 0 ? x[k + i] : 0, minus[i] = digit < 0 ? x[k + i] : 0;
        }
        const float less = (minus[0] + minus[1]) + (minus[2] + minus[3]);
        const float four = (plus[0] + plus[1]) + (plus[2] + plus[3]);
        t += p.parts == 1 ? four : four - less;
    }
    return t;
}

static void oracle_row(const float *x, struct coded *codes_of_row, float *y)
{
    const qsdk_sign_how how = {
        .bits = p.bits, .start = QSDK_SIGN_GREEDY, .nearest = 1, .cycles = p.cycles};
    codes_of_row->finite = 1;
    if (p.bits)
        oracle_code(x, p.length, &how, codes_of_row);
    for (size_t n = 0; n < p.outputs; n++) {
        y[n] = 0;
        for (size_t g = 0; g < p.groups; g++) {
            float part = 0;
            for (size_t i = 0; i < (size_t)p.planes && codes_of_row->finite; i++)
                part += p.alpha[i][n][g] *
                        (p.bits ? term(codes_of_row, i, n, g) : float_term(x, i, n, g));
            y[n] += part;
        }
        if (!codes_of_row->finite)
            y[n] = NAN;
        if (p.has_bias)
            y[n] += p.bias[n];
        if (!isnan(y[n]))
            y[n] = fminf(fmaxf(y[n], p.low), p.high);
    }
}

/* Inputs. */

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
    case 2: /* two magnitudes: planes that are equal */
        return draw(2) ? 1 : -2;
    case 3:
        return draw(50) ? 0 : uniform();
    case 4: /* the largest floats: their sum is one, or is infinite */
        return draw(20) ? uniform() * 1e30f : uniform() * FLT_MAX / 16;
    case 5: /* below the smallest normal float */
        return uniform() * 1e-40f;
    case 6: /* two betas equal, the third 0: thresholds of 0 */
        return k % 2 ? 0 : (draw(2) ? 2.0f : -2.0f);
    default:
        return draw(200) ? uniform() * 5 : (float[]){NAN, INFINITY, -INFINITY}[draw(3)];
    }
}

static void draw_problem(size_t trial)
{
    p.length = trial < LONG_TRIALS ? trial : draw(130) + (draw(20) ? 0 : 500);
    p.outputs = draw(30) ? 1 + draw(9) : 1 + draw(OUTPUTS);
    p.rows = trial < LONG_TRIALS ? 2 : draw(40) ? 8 + draw(FEW_ROWS - 7) : 1 + draw(MOST_ROWS);
    p.parts = 1 + (int)draw(2);
    p.planes = 1 + (int)draw(PLANES);
    p.bits = (int)draw(5);
    p.cycles = (int)draw(4);
    const size_t words = (p.length + 63) / 64, most = words ? words : 1;
    p.group = 64 * (draw(2) ? most : 1 + draw((uint32_t)most));
    p.groups = (words * 64 + p.group - 1) / p.group;
    for (int i = 0; i < p.planes; i++)
        for (size_t n = 0; n < p.outputs; n++) {
            const int all = draw(8) == 0 ? 1 - 2 * (int)draw(2) : 0; /* as many misses as can be */
            for (size_t k = 0; k < p.length; k++)
                p.digit[i][n][k] = (int8_t)(all             ? all
                                            : p.parts == 1 ? 2 * (int)draw(2) - 1
                                                           : (int)draw(3) - 1);
            for (size_t g = 0; g < p.groups; g++)
                p.alpha[i][n][g] = draw(10) ? fabsf(uniform()) : 0;
        }
    p.has_bias = (int)draw(2);
    for (size_t n = 0; n < p.outputs; n++)
        p.bias[n] = uniform();
    p.low = draw(2) ? -INFINITY : 0;
    p.high = draw(2) ? INFINITY : 6;
    const int kind = (int)draw(KINDS), same = (int)draw(20) == 0;
    for (size_t m = 0; m < p.rows; m++)
        for (size_t k = 0; k < p.length; k++)
            p.x[m][k] = same ? 0.5f : one_value(kind, k);
    for (size_t m = 0; m < p.rows; m++)
        oracle_row(p.x[m], &codes[m], p.y[m]);
}

/* Subject. */

static uint64_t *words_of(size_t words)
{
    const size_t planes = (size_t)p.planes, count = (size_t)p.parts * planes * p.outputs * words;
    uint64_t *to = guarded(0, count * sizeof *to);
    memset(to, 0, count * sizeof *to);
    for (size_t part = 0; part < (size_t)p.parts; part++)
        for (size_t i = 0; i < planes; i++)
            for (size_t n = 0; n < p.outputs; n++)
                for (size_t k = 0; k < p.length; k++)
                    if (p.digit[i][n][k] == (part ? -1 : 1))
                        to[((part * planes + i) * p.outputs + n) * words + k / 64] |= UINT64_C(1)
                                                                                      << k % 64;
    return to;
}

/* alpha and places in the order that the header states. */
static void by_block(size_t block, float *alpha, int32_t *places)
{
    for (size_t b = 0; b * block < p.outputs; b++)
        for (size_t g = 0; g < p.groups; g++)
            for (size_t i = 0; i < (size_t)p.planes; i++)
                for (size_t r = 0; r < block; r++, alpha++, places++) {
                    const size_t n = b * block + r, end = (g + 1) * p.group;
                    *alpha = n < p.outputs ? p.alpha[i][n][g] : 0;
                    *places = 0;
                    for (size_t k = g * p.group; n < p.outputs && k < end && k < p.length; k++)
                        *places += p.digit[i][n][k] != 0;
                }
}

static void compare(const float *y, const char *name, long trial)
{
    for (size_t m = 0; m < p.rows; m++) {
        int right = 1;
        for (size_t n = 0; n < p.outputs; n++) {
            const float found = y[m * p.outputs + n], expected = p.y[m][n];
            right &= found == expected || (isnan(found) && isnan(expected));
        }
        expect(right, name, trial, 100 * p.parts + 10 * p.planes + p.bits, (long)p.length);
    }
}

/* The oracle's codes as records, with anything behind the last place. */
static char *records(size_t words)
{
    const size_t bits = (size_t)p.bits, bytes = bits * (sizeof(float) + words * sizeof(uint64_t));
    char *to = guarded(8, p.rows * bytes);
    for (size_t m = 0; m < p.rows; m++) {
        char *record = to + m * bytes;
        for (size_t i = 0; i < bits; i++) {
            const float alpha = codes[m].finite ? codes[m].alpha[i] : NAN;
            memcpy(record + i * sizeof alpha, &alpha, sizeof alpha);
            for (size_t w = 0; w < words; w++) {
                uint64_t word = 0;
                for (size_t k = 64 * w; k < 64 * w + 64; k++)
                    word |= (uint64_t)(k < p.length ? codes[m].sign[i][k] > 0 : draw(2)) << k % 64;
                memcpy(record + bits * sizeof alpha + (w * bits + i) * sizeof word, &word,
                       sizeof word);
            }
        }
    }
    return to;
}

static void try_set(const struct qsdk_linear_binary_set *set, long trial)
{
    const size_t words = (p.length + 63) / 64;
    qsdk_linear_binary layer = {
        .set = set,
        .rows = p.outputs,
        .length = p.length,
        .group_words = p.group / 64,
        .planes = p.planes,
        .parts = p.parts,
        .bits = p.bits,
        .cycles = p.cycles,
        .bias = NULL,
        .low = p.low,
        .high = p.high,
    };
    const size_t block = qsdk_linear_binary_block_rows(layer.set, p.bits);
    const size_t numbers = (p.outputs + block - 1) / block * block * p.groups * (size_t)p.planes;
    uint8_t *packed = guarded(1, qsdk_linear_binary_packed(&layer));
    float *alpha = guarded(2, numbers * sizeof *alpha), *bias = guarded(4, p.outputs * sizeof *bias);
    int32_t *places = guarded(3, numbers * sizeof *places);
    qsdk_linear_binary_pack(&layer, words_of(words), packed);
    by_block(block, alpha, places);
    memcpy(bias, p.bias, p.outputs * sizeof *bias);
    layer.weights = packed;
    layer.alpha = alpha;
    layer.places = p.parts == 2 ? places : NULL;
    layer.bias = p.has_bias ? bias : NULL;
    float *x = guarded(5, p.rows * p.length * sizeof *x);
    float *y = guarded(6, p.rows * p.outputs * sizeof *y);
    for (size_t m = 0; m < p.rows; m++)
        memcpy(x + m * p.length, p.x[m], p.length * sizeof *x);
    void *scratch = guarded(7, qsdk_linear_binary_scratch(&layer, p.rows));
    qsdk_linear_binary_run(&layer, x, p.rows, y, scratch, 1 + (int)draw(2));
    compare(y, set->name, trial);
    if (!p.bits)
        return;
    layer.coded = 1;
    memset(y, 0x55, p.rows * p.outputs * sizeof *y);
    scratch = guarded(7, qsdk_linear_binary_scratch(&layer, p.rows));
    qsdk_linear_binary_run(&layer, records(words), p.rows, y, scratch, 1 + (int)draw(2));
    compare(y, set->name, trial);
}

/* The set of this name, here or in the library. */
static const struct qsdk_linear_binary_set *find(const char *name)
{
#ifdef QSDK_LINEAR_BINARY_AMX
    if (!strcmp(name, "amx modelled"))
        return model_set();
#endif
    return qsdk_linear_binary_find(name);
}

int main(void)
{
    static const struct {
        const char *name, *needs[4];
    } sets[] = {
        {"portable", {NULL}},
        {"avx2", {"avx2"}},
        {"avx512bw", {"avx512bw", "avx512dq"}},
        {"avx512vpopcntdq", {"avx512bw", "avx512dq", "avx512vpopcntdq"}},
        {"amx", {"avx512bw", "avx512dq", "avx512vpopcntdq", "amx_int8"}},
        {"amx modelled", {NULL}},
        {"neon", {"neon"}},
    };
    enum { SETS = sizeof sets / sizeof *sets };
    size_t done[SETS] = {0};
    const char *missing[SETS] = {0};
    for (size_t s = 0; s < SETS; s++) {
        if (!find(sets[s].name))
            missing[s] = "not in this build";
        for (int i = 0; i < 4 && sets[s].needs[i] && !missing[s]; i++)
            if (!has_feature(sets[s].needs[i]))
                missing[s] = sets[s].needs[i];
    }
    expect(!qsdk_linear_binary_find("nonsense"), "a set that does not exist", 0, 0, 0);
    for (size_t trial = 0; trial < TRIALS; trial++) {
        draw_problem(trial);
        for (size_t s = 0; s < SETS; s++)
            if (!missing[s]) {
                const size_t before = inputs;
                try_set(find(sets[s].name), (long)trial);
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
