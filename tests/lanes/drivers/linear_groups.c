/* Grouped 2 to 8 bit weights: every set this CPU runs against an oracle in plain C. */
#include "driver.h"
#include "linear_groups.h"

#include <float.h>
#include <math.h>

enum { LONGEST = 512, MOST_ROWS = 140, MOST_COLUMNS = 40, ROUNDS = 3 };

static const struct {
    const char *name, *features[4];
    int most_bits;
} sets[] = {
    {"portable", {NULL}, 8},
    {"avx2", {"avx2", "fma", NULL}, 7},
    {"avxvnni", {"avxvnni", "fma", NULL}, 8},
    {"avx512vnni", {"avx512bw", "avx512dq", "avx512vnni", NULL}, 8},
    {"neon", {"neon", NULL}, 7},
    {"dotprod", {"dotprod", NULL}, 7},
};

/* One layer, as it is meant: nothing packed. */
static struct {
    size_t columns, length, group, groups, rows;
    int bits, width;
    uint8_t u[MOST_COLUMNS][LONGEST], zero[LONGEST][MOST_COLUMNS];
    float scale[LONGEST][MOST_COLUMNS], bias[MOST_COLUMNS], x[MOST_ROWS][LONGEST], low, high;
    int code[MOST_ROWS][LONGEST];
    float scale_x[MOST_ROWS][LONGEST];
} at;

static size_t end_of(size_t g)
{
    return (g + 1) * at.group < at.length ? (g + 1) * at.group : at.length;
}

/* Oracles. */

static int nearest_code(float u) /* halves to even */
{
    const double below = floor((double)u), rest = (double)u - below;
    const double whole = below + (rest > 0.5 || (rest == 0.5 && fmod(below, 2) != 0) ? 1 : 0);
    return (int)fmax(-128, fmin(127, whole));
}

static void oracle_codes(size_t r)
{
    int finite = 1;
    for (size_t k = 0; k < at.length; k++)
        finite = finite && isfinite(at.x[r][k]);
    for (size_t g = 0; g < at.groups; g++) {
        double most = 0;
        for (size_t k = g * at.group; k < end_of(g); k++)
            if (finite && fabs((double)at.x[r][k]) > most)
                most = fabs((double)at.x[r][k]);
        const double limit = (double)FLT_MAX * (1 - ldexp(1, -20)) / 128;
        const double step = most > 0 ? fmax(most / 127, (double)FLT_MIN) : 1;
        const float scale = (float)fmin((double)(float)step, (double)(float)limit);
        for (size_t k = g * at.group; k < end_of(g); k++)
            at.code[r][k] = finite ? nearest_code(at.x[r][k] / scale) : 0;
        at.scale_x[r][g] = finite ? scale : NAN;
    }
}

static float oracle_coded(size_t r, size_t n)
{
    float y = 0;
    for (size_t g = 0; g < at.groups; g++) {
        int64_t acc = 0;
        for (size_t k = g * at.group; k < end_of(g); k++)
            acc += (int64_t)at.code[r][k] * ((int64_t)at.u[n][k] - at.zero[g][n]);
        const float step = at.scale_x[r][g] * at.scale[g][n];
        const float part = (float)acc * step;
        y = y + part;
    }
    y = y + at.bias[n];
    return isnan(y) ? y : fminf(fmaxf(y, at.low), at.high);
}

/* The exact result to some 2^-50 of it, and how far a kernel may be from it. */
static double oracle_float(size_t r, size_t n, double *bound)
{
    double y = (double)at.bias[n], size = fabs(y);
    for (size_t g = 0; g < at.groups; g++)
        for (size_t k = g * at.group; k < end_of(g); k++) {
            const double w = (double)at.scale[g][n] * (at.u[n][k] - at.zero[g][n]);
            y += (double)at.x[r][k] * w;
            size += fabs((double)at.x[r][k] * w);
        }
    *bound = 1.01 * (double)(at.group + at.groups + 3) * ldexp(size, -24);
    return fmin(fmax(y, (double)at.low), (double)at.high);
}

/* Inputs. */

static float one_value(int kind)
{
    const float even = (float)draw(1 << 16) / (1 << 15) - 1;
    switch (kind) {
    case 0: /* anything */
        return even * (float)(1 << draw(8));
    case 1: /* ties and the ends: halves of a step of a row whose largest is 127 */
        return draw(5) ? ((float)draw(509) - 254) / 2 : 127;
    case 2: /* mostly zeros */
        return draw(40) ? 0 : even;
    case 3: /* the largest and the smallest that there are */
        return (draw(2) ? -1 : 1) * (draw(3) ? FLT_MAX : FLT_TRUE_MIN * (float)draw(1000));
    default: /* all at one end */
        return draw(100) ? -127 : 127;
    }
}

static void draw_layer(int bits, size_t length)
{
    static const size_t groups[] = {16, 32, 48, 64, 128, 512};
    const uint32_t top = 1u << bits;
    at.bits = bits;
    at.width = bits == 2 ? 2 : bits <= 4 ? 4 : 8;
    at.columns = 1 + draw(MOST_COLUMNS);
    at.length = length;
    at.group = groups[draw(6)];
    at.groups = (length + at.group - 1) / at.group;
    at.rows = draw(50) ? 1 + draw(12) : MOST_ROWS;
    at.low = draw(2) ? -INFINITY : -(float)draw(3);
    at.high = draw(2) ? INFINITY : 100;
    const uint32_t kind = draw(4), zero = draw(top);
    const int alike = draw(2) == 0;
    for (size_t n = 0; n < at.columns; n++) {
        at.bias[n] = draw(2) ? 0 : (float)draw(1000) - 500;
        for (size_t k = 0; k < length; k++)
            at.u[n][k] = (uint8_t)(kind == 0 ? 0 : kind == 1 ? top - 1 : draw(top));
        for (size_t g = 0; g < at.groups; g++) {
            at.zero[g][n] = (uint8_t)(alike ? zero : draw(top));
            at.scale[g][n] = ldexpf(0.5f + (float)draw(1 << 20) / (1 << 21), (int)draw(10) - 8);
        }
    }
}

static void draw_input(int coded)
{
    for (size_t r = 0; r < at.rows; r++) {
        const int kind = coded ? (int)draw(5) : (int)draw(3);
        for (size_t k = 0; k < at.length; k++)
            at.x[r][k] = one_value(kind);
        if (coded && at.length && draw(16) == 0)
            at.x[r][draw((uint32_t)at.length)] = draw(2) ? NAN : draw(2) ? INFINITY : -INFINITY;
    }
}

/* The layer as the kernel gets it; each buffer ends where a forbidden page begins. */
static struct qsdk_linear_groups layer_for(const char *set)
{
    const size_t blocks = (at.columns + 15) / 16, params = blocks * at.groups * 16;
    uint8_t *u = guarded(0, at.columns * at.length);
    uint8_t *packed = guarded(1, qsdk_linear_groups_packed(at.columns, at.length, at.width));
    float *scale = guarded(2, params * sizeof *scale), *bias = guarded(3, blocks * 16 * 4);
    uint8_t *zeros = guarded(4, params);
    int alike = 1;
    for (size_t n = 0; n < at.columns; n++) {
        memcpy(u + n * at.length, at.u[n], at.length);
        bias[n] = at.bias[n];
        for (size_t g = 0; g < at.groups; g++) {
            const size_t place = (n / 16 * at.groups + g) * 16 + n % 16;
            scale[place] = at.scale[g][n];
            zeros[place] = at.zero[g][n];
            alike = alike && at.zero[g][n] == at.zero[0][0];
        }
    }
    qsdk_linear_groups_pack(u, at.columns, at.length, at.width, packed);
    return (struct qsdk_linear_groups){
        .set = qsdk_linear_groups_find(set),
        .columns = at.columns,
        .length = at.length,
        .group = at.group,
        .groups = at.groups,
        .width = at.width,
        .zero = at.groups ? at.zero[0][0] : 0,
        .codes = packed,
        .scale = scale,
        .zeros = alike ? NULL : zeros,
        .bias = bias,
        .low = at.low,
        .high = at.high,
    };
}

static void try_layer(const char *set, int coded)
{
    draw_input(coded);
    const struct qsdk_linear_groups layer = layer_for(set);
    float *x = guarded(5, at.rows * at.length * sizeof *x);
    float *y = guarded(6, at.rows * at.columns * sizeof *y);
    void *scratch = guarded(7, qsdk_linear_groups_scratch(&layer, at.rows));
    for (size_t r = 0; r < at.rows; r++) {
        memcpy(x + r * at.length, at.x[r], at.length * sizeof *x);
        oracle_codes(r);
    }
    const int threads = 1 + (int)draw(2);
    if (coded)
        qsdk_linear_groups_run(&layer, x, at.rows, y, scratch, threads);
    else
        qsdk_linear_groups_run_floats(&layer, x, at.rows, y, scratch, threads);
    for (size_t r = 0; r < at.rows; r++)
        for (size_t n = 0; n < at.columns; n++) {
            const float got = y[r * at.columns + n];
            double bound = 0;
            const float coded_y = oracle_coded(r, n);
            const double right = coded ? (double)coded_y : oracle_float(r, n, &bound);
            const int same = coded ? got == coded_y || (isnan(got) && isnan(coded_y))
                                   : fabs((double)got - right) <= bound;
            expect(same, set, at.bits, (long)at.length, coded);
        }
}

int main(void)
{
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        const char *missing = NULL;
        for (int i = 0; sets[s].features[i]; i++)
            if (!has_feature(sets[s].features[i]))
                missing = sets[s].features[i];
        if (!qsdk_linear_groups_find(sets[s].name)) {
            printf("%s: not in this build\n", sets[s].name);
            continue;
        }
        if (missing) {
            printf("%s: skipped, this CPU has no %s\n", sets[s].name, missing);
            continue;
        }
        const size_t before = inputs;
        for (size_t length = 0; length < LONGEST; length++)
            for (int round = 0; round < ROUNDS; round++) {
                draw_layer(2 + (int)draw((uint32_t)sets[s].most_bits - 1), length);
                try_layer(sets[s].name, draw(3) != 0);
            }
        printf("%s: %zu\n", sets[s].name, inputs - before);
    }
    return summary();
}
