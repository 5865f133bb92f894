/* Planes of signs, one element after the other: what native/sign_codes states, for the drivers of it and
 * of the kernels that code their input. Each element has its code and the place where its interval of
 * magnitudes begins and ends; nothing is known of intervals as such. */
#ifndef SIGN_ORACLE_H
#define SIGN_ORACLE_H

#include "sign_codes.h"

#include <math.h>
#include <stdlib.h>

enum { LONGEST = 70000, MOST_PLANES = 8 };

struct coded {
    float alpha[MOST_PLANES];
    int8_t sign[MOST_PLANES][LONGEST];
    int finite;
};

static struct {
    size_t n;
    int planes;
    float a[LONGEST], low[LONGEST], high[LONGEST];
    struct coded *to;
} oracle;

static double lanes(const float *value, size_t n)
{
    double total = 0;
    for (size_t first = 0; first < n; first += 65536) {
        const size_t end = n - first < 65536 ? n : first + 65536;
        float sum[16] = {0};
        for (size_t l = 0; l < 16; l++)
            for (size_t k = first + l; k < end; k += 16)
                sum[l] += value[k];
        for (int l = 0; l < 8; l++)
            sum[l] += sum[l + 8];
        for (int l = 0; l < 4; l++)
            sum[l] += sum[l + 4];
        total += (double)((sum[0] + sum[2]) + (sum[1] + sum[3]));
    }
    return total;
}

static float mean(const float *value)
{
    return (float)lanes(value, oracle.n) / (oracle.n ? (float)oracle.n : 1);
}

static float level_at(size_t k)
{
    float level = (float)oracle.to->sign[0][k] * oracle.to->alpha[0];
    for (int i = 1; i < oracle.planes; i++)
        level += (float)oracle.to->sign[i][k] * oracle.to->alpha[i];
    return level;
}

/* One plane more. */
static void cut_all(void)
{
    for (size_t k = 0; k < oracle.n; k++) {
        const float level = level_at(k);
        if (level <= oracle.low[k] || (level < oracle.high[k] && oracle.a[k] >= level)) {
            oracle.to->sign[oracle.planes][k] = 1;
            oracle.low[k] = level <= oracle.low[k] ? oracle.low[k] : level;
        } else {
            oracle.to->sign[oracle.planes][k] = -1;
            oracle.high[k] = level < oracle.high[k] ? level : oracle.high[k];
        }
    }
    oracle.planes++;
}

static int upwards(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Elimination as stated; how many planes depend on others. */
static int eliminate(double g[][MOST_PLANES], double *d, double *found)
{
    int depends[MOST_PLANES] = {0}, many = 0;
    for (int j = 0; j < oracle.planes; j++) {
        if (g[j][j] < 0.0009765625) {
            depends[j] = 1;
            many++;
            continue;
        }
        for (int i = j + 1; i < oracle.planes; i++) {
            const double factor = g[i][j] / g[j][j];
            d[i] -= factor * d[j];
            for (int m = j + 1; m <= i; m++)
                g[i][m] -= factor * g[m][j];
        }
    }
    for (int j = oracle.planes - 1; j >= 0; j--) {
        found[j] = d[j];
        for (int i = j + 1; i < oracle.planes; i++)
            found[j] -= g[i][j] * found[i];
        found[j] = depends[j] ? 0 : found[j] / g[j][j];
    }
    return many;
}

/* The elements of each interval are those from its beginning on, less those from that of the next. */
static int least_squares(double *found)
{
    static float begin[LONGEST], from[LONGEST], beyond[LONGEST];
    double g[MOST_PLANES][MOST_PLANES] = {{0}}, d[MOST_PLANES] = {0};
    size_t count = 0;
    memcpy(begin, oracle.low, oracle.n * sizeof *begin);
    qsort(begin, oracle.n, sizeof *begin, upwards);
    for (size_t k = 0; k < oracle.n; k++)
        if (!count || begin[k] != begin[count - 1])
            begin[count++] = begin[k];
    for (size_t t = 0; t < count; t++) {
        size_t number = 0, any = 0;
        for (size_t k = 0; k < oracle.n; k++) {
            from[k] = oracle.low[k] >= begin[t] ? oracle.a[k] : 0;
            beyond[k] = oracle.low[k] > begin[t] ? oracle.a[k] : 0;
            number += oracle.low[k] == begin[t];
            any = oracle.low[k] == begin[t] ? k : any;
        }
        const double sum = lanes(from, oracle.n) - lanes(beyond, oracle.n);
        for (int i = 0; i < oracle.planes; i++) {
            d[i] += oracle.to->sign[i][any] * sum;
            for (int j = 0; j < oracle.planes; j++)
                g[i][j] += (double)(oracle.to->sign[i][any] * oracle.to->sign[j][any]) *
                           (double)number;
        }
    }
    return eliminate(g, d, found);
}

static void fit(void)
{
    double found[MOST_PLANES];
    least_squares(found);
    for (int i = 0; i < oracle.planes; i++)
        oracle.to->alpha[i] = (float)found[i];
}

/* No alpha below 0, largest first, by choosing the first of the largest that are left. */
static void normalise(void)
{
    static struct coded given;
    int taken[MOST_PLANES] = {0};
    given = *oracle.to;
    for (int place = 0; place < oracle.planes; place++) {
        int best = -1;
        for (int i = 0; i < oracle.planes; i++)
            if (!taken[i] && (best < 0 || fabsf(given.alpha[i]) > fabsf(given.alpha[best])))
                best = i;
        taken[best] = 1;
        oracle.to->alpha[place] = fabsf(given.alpha[best]);
        for (size_t k = 0; k < oracle.n; k++)
            oracle.to->sign[place][k] =
                (int8_t)(given.alpha[best] < 0 ? -given.sign[best][k] : given.sign[best][k]);
    }
}

static void assign_nearest(void)
{
    const int planes = oracle.planes, count = 1 << (planes - 1);
    float sum[128], level[128];
    int signs[128][MOST_PLANES], order[128], taken[128] = {0};
    normalise();
    for (int m = 0; m < count; m++) {
        sum[m] = oracle.to->alpha[0];
        signs[m][0] = 1;
        for (int i = 1; i < planes; i++) {
            signs[m][i] = m & (1 << (planes - 1 - i)) ? 1 : -1;
            sum[m] += (float)signs[m][i] * oracle.to->alpha[i];
        }
        for (int i = 0; sum[m] < 0 && i < planes; i++)
            signs[m][i] = -signs[m][i];
        sum[m] = fabsf(sum[m]);
    }
    for (int place = 0; place < count; place++) { /* the lowest left, the first of equals */
        int best = -1;
        for (int m = 0; m < count; m++)
            if (!taken[m] && (best < 0 || sum[m] < sum[best]))
                best = m;
        taken[best] = 1;
        level[place] = sum[best];
        order[place] = best;
    }
    for (size_t k = 0; k < oracle.n; k++) {
        int number = 0;
        oracle.low[k] = 0;
        for (int j = 1; j < count; j++)
            if (level[j - 1] / 2 + level[j] / 2 <= oracle.a[k]) {
                number++;
                oracle.low[k] = level[j - 1] / 2 + level[j] / 2;
            }
        for (int i = 0; i < planes; i++)
            oracle.to->sign[i][k] = (int8_t)signs[order[number]][i];
    }
}

/* The error of a grid of D, 3 D, ..; infinite where it is not tried. */
static double grid_error(float d, int bits)
{
    static float squared[LONGEST];
    const int top = (1 << (bits - 1)) - 1;
    if (!isfinite(d * (float)(1 << bits)))
        return INFINITY;
    for (size_t k = 0; k < oracle.n; k++) {
        const float t = oracle.a[k] * (0.5f / d);
        int q = top;
        while (q > 0 && (float)q > t)
            q--;
        const float off = t - ((float)q + 0.5f);
        squared[k] = off * off;
    }
    return 2.0 * d * (2.0 * d) * lanes(squared, oracle.n);
}

static void uniform_start(int bits)
{
    static const float factor[4] = {1.18920708f, 0.840896428f, 1.09050775f, 0.917004049f};
    float d = oracle.to->alpha[0] / (float)((1 << bits) - 1), best = d, middle = d;
    double least = INFINITY;
    for (int c = 0; c < 4 * bits; c++, d *= 1.41421354f)
        if (grid_error(d, bits) < least) {
            least = grid_error(d, bits);
            best = d;
        }
    for (int c = 0; c < 4; c++) {
        if (c % 2 == 0)
            middle = best;
        if (grid_error(middle * factor[c], bits) < least) {
            best = middle * factor[c];
            least = grid_error(best, bits);
        }
    }
    oracle.planes = bits;
    for (int i = 0; i < bits; i++)
        oracle.to->alpha[i] = ldexpf(best, bits - 1 - i);
}

static void started(const qsdk_sign_how *how)
{
    static float rest[LONGEST];
    oracle.planes = 1;
    for (size_t k = 0; k < oracle.n; k++) {
        rest[k] = oracle.a[k];
        oracle.low[k] = 0;
        oracle.high[k] = INFINITY;
        oracle.to->sign[0][k] = 1;
    }
    oracle.to->alpha[0] = mean(oracle.a);
    for (int i = 1; i < how->bits && how->start != QSDK_SIGN_UNIFORM; i++) {
        for (size_t k = 0; k < oracle.n; k++)
            rest[k] = fabsf(rest[k] - oracle.to->alpha[i - 1]);
        cut_all();
        oracle.to->alpha[i] = mean(rest);
        if (how->start == QSDK_SIGN_REFINED)
            fit();
    }
    if (how->bits > 1 && how->start == QSDK_SIGN_UNIFORM)
        uniform_start(how->bits);
    if (how->bits > 1 && (how->nearest || how->start == QSDK_SIGN_UNIFORM))
        assign_nearest();
}

static void oracle_code(const float *x, size_t n, const qsdk_sign_how *how, struct coded *to)
{
    double found[MOST_PLANES];
    oracle.n = n;
    oracle.to = to;
    for (size_t k = 0; k < n; k++)
        oracle.a[k] = fabsf(x[k]);
    to->finite = isfinite((float)lanes(oracle.a, n)) != 0;
    if (!to->finite)
        return;
    started(how);
    for (int cycle = 0; cycle < how->cycles && how->bits > 1; cycle++) {
        if (!least_squares(found))
            for (int i = 0; i < how->bits; i++)
                to->alpha[i] = (float)found[i];
        assign_nearest();
    }
    if (how->final && how->bits > 1)
        fit();
    for (int i = 0; i < how->bits; i++)
        to->finite &= isfinite(to->alpha[i]) != 0;
    normalise();
    for (int i = 0; i < how->bits; i++)
        for (size_t k = 0; k < n; k++)
            to->sign[i][k] = (int8_t)(x[k] < 0 ? -to->sign[i][k] : to->sign[i][k]);
}

#endif
