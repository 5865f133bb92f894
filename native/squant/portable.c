/* SQuant, row by row: round and note the errors, a flip step on each kernel, one on the whole row.
 *
 * A flip step turns the errors of its set, in place, into ranks: |e| of a code that may move, 0 of
 * the others. To move few codes it looks for the largest rank as often; to move many, it bisects
 * for a threshold in passes that only compare and count. No sort, and never quadratic time. */
#include "qsdk_native.h"

#include <math.h>
#include <string.h>

#define ONE ((int32_t)1 << 20) /* one step of the grid, in the unit of the errors */
#define FEW 2 /* single searches that cost less than a bisection, in a 3x3 kernel */

struct moved {
    size_t count;
    size_t last; /* position of the last code moved, in the order of the flip step */
    int32_t last_rank;
};

/* Stage E: the codes of quantize_rows, and their errors. */
static void round_row_portable(const float *restrict x, size_t length, float scale,
                               int32_t zero_point, int32_t qmin, int32_t qmax,
                               int32_t *restrict error, uint8_t *restrict codes)
{
    const float low = (float)(qmin - zero_point), high = (float)(qmax - zero_point);
    for (size_t i = 0; i < length; i++) {
        const float u = qsdk_clamp_portable(x[i] / scale, low - QSDK_REACH, high + QSDK_REACH);
        const float steps = qsdk_round_portable(qsdk_clamp_portable(u, low, high));
        codes[i] = (uint8_t)((int32_t)steps + zero_point);

        /* rne by the fraction, which is exact: qsdk_round ends at 2^22, size at 2^30. */
        const float size = fabsf(steps - u) * (float)ONE;
        const int32_t whole = (int32_t)size;
        const float fraction = size - (float)whole;
        const int32_t up = (fraction > 0.5f) | ((fraction == 0.5f) & whole);
        error[i] = steps < u ? -(whole + up) : whole + up;
    }
}

static int64_t sum_portable(const int32_t *error, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += error[i];
    return sum;
}

/* Errors become ranks: positive for candidates, which have the sign of the sum and whose codes are
 * not at the limit already, else 0. Returns the number of candidates. */
static size_t rank_portable(int32_t *restrict error, const uint8_t *restrict codes, size_t n,
                            int32_t sign, uint8_t limit)
{
    int32_t candidates = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t rank = sign < 0 ? -error[i] : error[i];
        const int32_t may_move = (rank > 0) & (codes[i] != limit);
        error[i] = rank & -may_move;
        candidates += may_move;
    }
    return (size_t)candidates;
}

static size_t count_above_portable(const int32_t *rank, size_t n, int32_t threshold)
{
    int32_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += rank[i] > threshold;
    return (size_t)count;
}

/* Position of the largest rank, the first of equals: the maximum of (rank, -position). */
static size_t largest_portable(const int32_t *rank, size_t n)
{
    uint64_t best = 0;
    for (size_t i = 0; i < n; i++) {
        const uint64_t candidate = (uint64_t)rank[i] << 32 | (uint32_t)~i;
        best = candidate > best ? candidate : best;
    }
    return (uint32_t)~best;
}

static struct moved move_few_portable(int32_t *rank, uint8_t *codes, size_t n, size_t count,
                                      int32_t step)
{
    struct moved moved = {count, 0, ONE};
    for (size_t m = 0; m < count; m++) {
        moved.last = largest_portable(rank, n);
        moved.last_rank = rank[moved.last];
        rank[moved.last] = 0;
        codes[moved.last] = (uint8_t)(codes[moved.last] + step);
    }
    return moved;
}

static struct moved move_many_portable(int32_t *rank, uint8_t *codes, size_t n, size_t count,
                                       int32_t step)
{
    /* `above` ranks, no more than count, are > high; more than count are > low, or it is 0. */
    int32_t low = 0, high = ONE;
    size_t above = 0;
    while (above != count && high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        const size_t above_middle = count_above_portable(rank, n, middle);
        if (above_middle > count) {
            low = middle;
        } else {
            high = middle;
            above = above_middle;
        }
    }

    struct moved moved = {count, 0, ONE};
    size_t equal = count - above; /* how many of the ranks == high move: the first */
    for (size_t i = 0; i < n; i++) {
        if (rank[i] < high || (rank[i] == high && equal == 0))
            continue;
        equal -= rank[i] == high;
        if (rank[i] <= moved.last_rank) {
            moved.last = i;
            moved.last_rank = rank[i];
        }
        rank[i] = 0;
        codes[i] = (uint8_t)(codes[i] + step);
    }
    return moved;
}

/* The flip step. Leaves in error the ranks of the candidates that did not move, 0 elsewhere. */
static struct moved flip_portable(int32_t *error, uint8_t *codes, size_t n, int64_t sum,
                                  int32_t qmin, int32_t qmax)
{
    const int32_t sign = sum < 0 ? -1 : 1;
    const int64_t size = sign * sum;
    const int64_t wanted = (size + ONE / 2 - 1 + (size / ONE) % 2) / ONE; /* halves to even */
    const size_t available =
        rank_portable(error, codes, n, sign, (uint8_t)(sum < 0 ? qmax : qmin));
    const size_t count = (uint64_t)wanted < available ? (size_t)wanted : available;
    return count <= FEW ? move_few_portable(error, codes, n, count, -sign)
                        : move_many_portable(error, codes, n, count, -sign);
}

/* Stage K on one kernel. Leaves in error the one candidate for stage C, 0 elsewhere; returns the
 * sum that is left. */
static int64_t flip_kernel_portable(int32_t *error, uint8_t *codes, size_t n, int32_t qmin,
                                    int32_t qmax)
{
    const int64_t sum = sum_portable(error, n);
    if (sum == 0) {
        memset(error, 0, n * sizeof *error);
        return 0;
    }
    const int32_t sign = sum < 0 ? -1 : 1;
    const struct moved moved = flip_portable(error, codes, n, sum, qmin, qmax);
    const int64_t left = sign * sum - (int64_t)moved.count * ONE;
    const size_t candidate = left > 0 ? largest_portable(error, n) : moved.last;
    const int32_t candidate_error = left > 0 ? error[candidate] : moved.last_rank - ONE;
    memset(error, 0, n * sizeof *error);
    error[candidate] = sign * candidate_error;
    return sign * left;
}

void qsdk_squant_portable(const float *x, size_t rows, size_t kernels, size_t kernel_size,
                          const float *scale, const int32_t *zero_point, int32_t qmin,
                          int32_t qmax, int stage_k, int stage_c, int32_t *error, uint8_t *codes)
{
    const size_t length = kernels * kernel_size;
    for (size_t r = 0; r < rows; r++, x += length, codes += length) {
        round_row_portable(x, length, scale[r], zero_point[r], qmin, qmax, error, codes);
        int64_t sum = 0;
        if (stage_k && kernel_size > 1)
            for (size_t i = 0; i < length; i += kernel_size)
                sum += flip_kernel_portable(error + i, codes + i, kernel_size, qmin, qmax);
        else
            sum = sum_portable(error, length);
        if (stage_c)
            flip_portable(error, codes, length, sum, qmin, qmax);
    }
}
