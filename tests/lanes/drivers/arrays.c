/* Rounding, packing, decoding and SQuant on seeded inputs, against plain slow oracles in this file. */
#include "driver.h"
#include "arrays.h"

#include <math.h>

static const struct qsdk_arrays *set; /* under test */

#define ROWS 3
#define LONGEST 512
#define ONE ((int64_t)1 << 20)

/* Oracles. */

static int64_t nearest(double value) /* halves to even */
{
    const double below = floor(value), rest = value - below;
    const int64_t whole = (int64_t)below;
    return rest > 0.5 || (rest == 0.5 && whole % 2 != 0) ? whole + 1 : whole;
}

static int64_t held(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static int64_t oracle_steps(float u, int zero, int qmin, int qmax)
{
    const double limit = 1e6, far = u > limit ? limit : u < -limit ? -limit : u;
    return held(nearest(far), qmin - zero, qmax - zero);
}

static int64_t oracle_error(float u, int64_t steps, int fraction_bits)
{
    const double error = fmax(fmin((double)((float)steps - u), 1024), -1024);
    return nearest(ldexp(error, fraction_bits));
}

static int bit_of(const uint8_t *packed, size_t bit)
{
    return packed[bit / 8] >> bit % 8 & 1;
}

static int direction_of(int64_t e, int64_t code, int qmin, int qmax)
{
    return e < 0 && code < qmax ? 1 : e > 0 && code > qmin ? -1 : 0;
}

/* The flip step of the header; order gets the candidates that may move, returns how many did. */
static size_t oracle_flip(int64_t *e, int64_t *codes, const char *candidate, size_t n, int64_t sum,
                          int qmin, int qmax, size_t *order, size_t *ordered)
{
    const int direction = sum < 0 ? 1 : sum > 0 ? -1 : 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (direction && candidate[i] && direction_of(e[i], codes[i], qmin, qmax) == direction) {
            size_t place = count++; /* behind all that are as large */
            for (; place > 0 && llabs(e[order[place - 1]]) < llabs(e[i]); place--)
                order[place] = order[place - 1];
            order[place] = i;
        }
    const size_t wanted = (size_t)nearest(ldexp((double)llabs(sum), -20));
    const size_t moved = wanted < count ? wanted : count;
    for (size_t m = 0; m < moved; m++) {
        codes[order[m]] += direction;
        e[order[m]] += direction * ONE;
    }
    *ordered = count;
    return moved;
}

static int64_t sum_of(const int64_t *e, size_t n)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += e[i];
    return sum;
}

static void oracle_squant(const float *x, size_t length, size_t kernel_size, float scale, int zero,
                          int qmin, int qmax, int stage_k, int stage_c, int64_t *codes)
{
    static int64_t e[LONGEST];
    static char candidate[LONGEST];
    static size_t order[LONGEST];
    size_t ordered;
    for (size_t i = 0; i < length; i++) {
        const float u = x[i] / scale;
        const int64_t steps = oracle_steps(u, zero, qmin, qmax);
        codes[i] = steps + zero;
        e[i] = oracle_error(u, steps, 20);
    }
    memset(candidate, 1, sizeof candidate);
    if (stage_k && kernel_size > 1) {
        char left[LONGEST] = {0};
        for (size_t start = 0; start < length; start += kernel_size) {
            const int64_t sum = sum_of(e + start, kernel_size);
            const size_t moved = oracle_flip(e + start, codes + start, candidate, kernel_size, sum,
                                             qmin, qmax, order, &ordered);
            if (sum != 0 && (int64_t)moved * ONE >= llabs(sum))
                left[start + order[moved - 1]] = 1;
            else if (sum != 0 && moved < ordered)
                left[start + order[moved]] = 1;
        }
        memcpy(candidate, left, sizeof left);
    }
    if (stage_c)
        oracle_flip(e, codes, candidate, length, sum_of(e, length), qmin, qmax, order, &ordered);
}

/* Inputs. */

static const int grids[][2] = {{-8, 7}, {-7, 7}, {0, 15}, {-2, 1}, {0, 1}, {-128, 127}, {0, 255}};
enum { GRIDS = sizeof grids / sizeof *grids, KINDS = 6 };

static float one_value(int kind, int low, int high)
{
    const int width = high - low;
    switch (kind) {
    case 0: /* quarters: zeros, halves, ties */
        return (float)(4 * low - 2 + (int)draw((uint32_t)(4 * width + 5))) / 4;
    case 1: /* anything on the grid and a little beside it */
        return (float)low - 1 + (float)draw(1 << 20) * (float)(width + 2) / (1 << 20);
    case 2: /* errors of one sign */
        return (float)(low + (int)draw((uint32_t)width + 1)) + (float)draw(3) / 4;
    case 3: /* errors that differ by half a unit of 2^-20 */
        return (float)(100000 + (float)draw(8) / 2) / ONE;
    case 4: { /* next to halves, where a reciprocal errs */
        const float half = (float)(low + (int)draw((uint32_t)width + 1)) + 0.5f;
        return half * (1 + ((float)draw(9) - 4) * 0x1p-24f);
    }
    default: /* far outside */
        return draw(4) ? 0.25f : (draw(2) ? 1e9f : -3e4f);
    }
}

static void rows_of(int kind, const int *grid, size_t length, float *x, float *scale, int32_t *zero)
{
    for (size_t r = 0; r < ROWS; r++) {
        zero[r] = grid[0] + (int)draw((uint32_t)(grid[1] - grid[0] + 1));
        scale[r] = kind == 1 || kind == 4 ? 0.3f + (float)draw(1000) / 997 : ldexpf(1, (int)draw(9) - 6);
        for (size_t i = 0; i < length; i++)
            x[r * length + i] = one_value(kind, grid[0] - zero[r], grid[1] - zero[r]) * scale[r];
    }
}

static void try_packing(int bits, int is_signed, size_t n)
{
    const size_t bytes = (n * (size_t)bits + 7) / 8;
    uint8_t *codes = guarded(0, n), *packed = guarded(1, bytes), *back = guarded(2, n);
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)draw(256);
    const int qmin = (int)draw(256) - 128;
    const int reach = set->pack(codes, n, bits, (uint8_t)qmin, packed);
    int right = 1, most = 0;
    for (size_t i = 0; i < n; i++)
        most = (uint8_t)(codes[i] - qmin) > most ? (uint8_t)(codes[i] - qmin) : most;
    expect(reach == most, "how far codes reach", bits, qmin, (long)n);
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        const size_t i = bit / (size_t)bits;
        right &= bit_of(packed, bit) == (i < n ? codes[i] >> bit % (size_t)bits & 1 : 0);
    }
    expect(right, "pack", bits, is_signed, (long)n);
    right = set->unpack(packed, bytes, n, bits, is_signed, back) == 0;
    for (size_t i = 0; i < n; i++) {
        int code = codes[i] % (1 << bits);
        if (is_signed && code >= 1 << (bits - 1))
            code -= 1 << bits;
        right &= back[i] == (uint8_t)code;
    }
    expect(right, "unpack", bits, is_signed, (long)n);
    if (bytes)
        expect(set->unpack(packed + 1, bytes - 1, n, bits, is_signed, back) == 1,
               "a packed buffer one byte short is refused", bits, is_signed, (long)n);
}

static void try_rounding(int kind, const int *grid, size_t length)
{
    float *x = guarded(0, ROWS * length * sizeof *x), *scale = guarded(1, ROWS * sizeof *scale);
    int32_t *zero = guarded(2, ROWS * sizeof *zero);
    uint8_t *codes = guarded(3, ROWS * length);
    int64_t *error = guarded(4, ROWS * sizeof *error);
    rows_of(kind, grid, length, x, scale, zero);
    set->quantize_rows(x, ROWS, length, scale, zero, grid[0], grid[1], codes);
    set->squared_error_rows(x, ROWS, length, scale, zero, grid[0], grid[1], error);
    int right_codes = 1, right_error = 1;
    for (size_t r = 0; r < ROWS; r++) {
        int64_t sum = 0;
        for (size_t i = 0; i < length; i++) {
            const float u = x[r * length + i] / scale[r];
            const int64_t steps = oracle_steps(u, zero[r], grid[0], grid[1]);
            const int64_t e = oracle_error(u, steps, 10);
            right_codes &= codes[r * length + i] == (uint8_t)(steps + zero[r]);
            sum += e * e;
        }
        right_error &= sum == error[r];
    }
    expect(right_codes, "quantize_rows", kind, grid[0], (long)length);
    expect(right_error, "squared_error_rows", kind, grid[0], (long)length);
}

static void try_squant(int kind, const int *grid, size_t kernels, size_t kernel_size, int stages)
{
    static int64_t oracle[LONGEST];
    const size_t length = kernels * kernel_size;
    float *x = guarded(0, ROWS * length * sizeof *x), *scale = guarded(1, ROWS * sizeof *scale);
    int32_t *zero = guarded(2, ROWS * sizeof *zero), *error = guarded(4, length * sizeof *error);
    uint8_t *codes = guarded(3, ROWS * length);
    rows_of(kind, grid, length, x, scale, zero);
    set->squant(x, ROWS, kernels, kernel_size, scale, zero, grid[0], grid[1], stages & 1,
                stages >> 1, error, codes);
    int right = 1;
    for (size_t r = 0; r < ROWS; r++) {
        oracle_squant(x + r * length, length, kernel_size, scale[r], zero[r], grid[0], grid[1],
                      stages & 1, stages >> 1, oracle);
        for (size_t i = 0; i < length; i++)
            right &= codes[r * length + i] == (uint8_t)oracle[i];
    }
    expect(right, "squant", kind + 10 * stages, grid[0], (long)(1000 * kernels + kernel_size));
}

static void try_range(int kind, const int *grid, size_t length)
{
    float *x = guarded(0, ROWS * length * sizeof *x), *low = guarded(1, ROWS * sizeof *low);
    float *high = guarded(2, ROWS * sizeof *high), scale[ROWS];
    int32_t zero[ROWS];
    rows_of(kind, grid, length, x, scale, zero);
    int finite = set->range_rows(x, ROWS, length, low, high), right = finite;
    for (size_t r = 0; r < ROWS; r++) {
        float least = INFINITY, most = -INFINITY;
        for (size_t i = 0; i < length; i++) {
            least = fminf(least, x[r * length + i]);
            most = fmaxf(most, x[r * length + i]);
        }
        right &= low[r] == least && high[r] == most;
        right &= !(low[r] == 0 && signbit(low[r])) && !(high[r] == 0 && signbit(high[r]));
    }
    expect(right, "range_rows", kind, grid[0], (long)length);
    for (size_t i = 0; i < ROWS * length; i += 1 + draw(5)) {
        const float was = x[i];
        x[i] = kind == 0 ? NAN : kind == 1 ? INFINITY : -INFINITY;
        expect(!set->range_rows(x, ROWS, length, low, high), "not finite", kind, (long)i,
               (long)length);
        x[i] = was;
    }
}

/* Every step of the grid in double, rounded where the header says float. */
static void try_grid(int kind, const int *grid, int symmetric)
{
    float low[16], high[16], scale[16];
    int32_t zero[16];
    for (int r = 0; r < 16; r++) {
        low[r] = -one_value(kind, 0, 9) * ldexpf(1, (int)draw(200) - 100);
        high[r] = low[r] + fabsf(one_value(kind, 0, 9)) * ldexpf(1, (int)draw(200) - 100);
    }
    qsdk_grid_rows_portable(low, high, 16, grid[0], grid[1], symmetric, scale, zero);
    for (int r = 0; r < 16; r++) {
        const double bottom = fmin(low[r], 0), top = fmax(high[r], 0);
        double step = symmetric ? fmax(-bottom, top) / grid[1] : (top - bottom) / (grid[1] - grid[0]);
        step = top > bottom ? fmax(step, 0x1p-126) : 1;
        const int64_t first = grid[0] - nearest((double)((float)bottom / (float)step));
        const int64_t expected = symmetric ? 0 : held(first, grid[0], grid[1]);
        expect(scale[r] == (float)step && zero[r] == expected, "grid_rows", kind, symmetric, r);
    }
}

/* The one call against the calls that it is made of. */
static void try_encoding(const int *grid, int bits, size_t kernels, size_t kernel_size, int stages)
{
    const size_t rows = 19, length = kernels * kernel_size, bytes = (rows * length * (size_t)bits + 7) / 8;
    const size_t block = length * (size_t)bits % 8 ? 8 : 1 + draw(12);
    float *x = guarded(0, rows * length * sizeof *x), low[19], high[19], scale[19], scales[19];
    int32_t *error = guarded(1, length * sizeof *error), zero[19], zeros[19];
    uint8_t *codes = guarded(2, block * length), *packed = guarded(3, bytes);
    uint8_t *all = guarded(4, rows * length), *expected = guarded(5, bytes);
    for (size_t i = 0; i < rows * length; i++)
        x[i] = (float)(draw(1 << 20) + draw(1 << 20)) / (1 << 20) - 0.9f;
    int right = qsdk_encode_rows_portable(set, x, rows, kernels, kernel_size, bits, grid[0],
                                          grid[1], 0, stages & 1, stages >> 1, block, error, codes,
                                          scale, zero, packed);
    set->range_rows(x, rows, length, low, high);
    qsdk_grid_rows_portable(low, high, rows, grid[0], grid[1], 0, scales, zeros);
    set->squant(x, rows, kernels, kernel_size, scales, zeros, grid[0], grid[1], stages & 1,
                stages >> 1, error, all);
    set->pack(all, rows * length, bits, (uint8_t)grid[0], expected);
    right &= !memcmp(packed, expected, bytes) && !memcmp(scale, scales, sizeof scale) &&
             !memcmp(zero, zeros, sizeof zero);
    expect(right, "encode_rows", bits, stages, (long)(1000 * kernels + kernel_size));
    if (length) {
        x[draw((uint32_t)(rows * length))] = NAN;
        right = !qsdk_encode_rows_portable(set, x, rows, kernels, kernel_size, bits, grid[0],
                                           grid[1], 0, stages & 1, stages >> 1, block, error,
                                           codes, scale, zero, packed);
        expect(right, "encode_rows of NaN", bits, stages, (long)(1000 * kernels + kernel_size));
    }
}

/* One product of floats for each value, as qsdk.affine.dequantize has it. */
static void try_decoding(const int *grid, int bits, size_t rows, size_t length)
{
    const size_t n = rows * length, bytes = (n * (size_t)bits + 7) / 8;
    uint8_t *codes = guarded(0, n), *packed = guarded(1, bytes), *scratch = guarded(2, QSDK_DECODE);
    float *scale = guarded(3, rows * sizeof *scale), *x = guarded(4, n * sizeof *x);
    float *decoded = guarded(5, n * sizeof *x);
    int32_t *zero = guarded(6, rows * sizeof *zero);
    const uint32_t width = (uint32_t)(grid[1] - grid[0] + 1);
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)(grid[0] + (int)draw(width));
    for (size_t r = 0; r < rows; r++) {
        zero[r] = grid[0] + (int)draw(width);
        scale[r] = ldexpf(0.5f + (float)draw(1 << 20) / (1 << 21), (int)draw(200) - 126);
    }
    set->pack(codes, n, bits, (uint8_t)grid[0], packed);
    set->dequantize_rows(codes, rows, length, scale, zero, grid[0] < 0, x);
    qsdk_decode_rows_portable(set, packed, rows, length, bits, grid[0] < 0, scale, zero, scratch,
                              decoded);
    int right = 1;
    for (size_t i = 0; i < n; i++) {
        const int code = grid[0] < 0 ? (int8_t)codes[i] : codes[i];
        const float expected = (float)(code - zero[i / length]) * scale[i / length];
        right &= !memcmp(x + i, &expected, sizeof expected);
    }
    expect(right, "dequantize_rows", bits, (long)rows, (long)length);
    expect(!memcmp(x, decoded, n * sizeof *x), "decode_rows", bits, (long)rows, (long)length);
}

/* floor(acc * mantissa * 2^(shift - 31) + 1/2): exact in 128 bits. */
static int64_t oracle_requantized(int32_t acc, int32_t mantissa, int32_t shift)
{
    const int right = 31 - shift < 100 ? 31 - shift : 100;
    const __int128 half = (__int128)1 << (right - 1);
    return (int64_t)(((__int128)acc * mantissa + half) >> right);
}

static void try_requantizing(const int *grid, size_t length)
{
    static const int32_t ends[] = {INT32_MIN, INT32_MAX, 0, 1, -1};
    int32_t *acc = guarded(0, ROWS * length * sizeof *acc), *shift = guarded(1, ROWS * sizeof *shift);
    int32_t *mantissa = guarded(2, ROWS * sizeof *mantissa);
    uint8_t *codes = guarded(3, ROWS * length);
    const int zero = grid[0] + (int)draw((uint32_t)(grid[1] - grid[0] + 1));
    for (size_t r = 0; r < ROWS; r++) {
        shift[r] = (int)draw(3) ? -(int)draw(20) : 30 - (int)draw(120);
        mantissa[r] = draw(9) ? (int32_t)(draw(1u << 30) + (1u << 30)) : draw(2) ? 1 << 30 : 0;
        for (size_t i = 0; i < length; i++) {
            const int32_t any = (int32_t)(draw(1u << 31) - (1u << 30)) * 2 + (int32_t)draw(2);
            acc[r * length + i] = draw(8) ? any >> draw(31) : ends[draw(5)];
        }
    }
    set->requantize_rows(acc, ROWS, length, mantissa, shift, zero, grid[0], grid[1], codes);
    int right = 1;
    for (size_t i = 0; i < ROWS * length; i++) {
        const size_t r = i / length;
        const int64_t steps = oracle_requantized(acc[i], mantissa[r], shift[r]);
        right &= codes[i] == (uint8_t)held(steps + zero, grid[0], grid[1]);
    }
    expect(right, "requantize_rows", grid[0], zero, (long)length);
}

static void try_all(void)
{
    static const size_t sizes[] = {1, 2, 3, 9, 9, 25, 49}, counts[] = {0, 1, 2, 5, 17, 33, 40};
    for (int bits = 1; bits <= 8; bits++)
        for (int is_signed = 0; is_signed < 2; is_signed++)
            for (size_t n = 0; n <= 320; n++)
                try_packing(bits, is_signed, n);
    for (int bits = 1; bits <= 8; bits++)
        for (int is_signed = 0; is_signed < 2; is_signed++) {
            const int half = is_signed ? 1 << (bits - 1) : 0, grid[] = {-half, (1 << bits) - 1 - half};
            for (size_t length = 0; length <= 130; length++)
                try_decoding(grid, bits, 1 + draw(120), length);
            for (int seed = 0; seed < 20; seed++)
                try_decoding(grid, bits, 1 + draw(5), 4000 + draw(9000));
        }
    for (int bits = 1; bits <= 8; bits++)
        for (int stages = 0; stages < 4; stages++)
            for (size_t s = 0; s < 7; s++)
                for (size_t c = 1; c < 6; c++) {
                    const int grid[] = {-(1 << (bits - 1)), (1 << (bits - 1)) - 1};
                    try_encoding(grid, bits, counts[c], sizes[s], stages);
                }
    for (int g = 0; g < GRIDS; g++)
        for (int kind = 0; kind < KINDS; kind++) {
            for (size_t length = 0; length <= 130; length++) {
                try_rounding(kind, grids[g], length);
                try_range(kind, grids[g], length);
                try_requantizing(grids[g], length);
            }
            for (int stages = 0; stages < 4; stages++)
                for (int seed = 0; seed < 5; seed++)
                    for (size_t s = 0; s < 7; s++)
                        for (size_t c = 0; c < 7; c++)
                            if (counts[c] * sizes[s] <= LONGEST)
                                try_squant(kind, grids[g], counts[c], sizes[s], stages);
        }
}

int main(void)
{
    for (int kind = 0; kind < KINDS - 1; kind++)
        for (int g = 0; g < GRIDS; g++)
            for (int symmetric = 0; symmetric < 1 + (grids[g][0] == -grids[g][1]); symmetric++)
                try_grid(kind, grids[g], symmetric);
    for (uint32_t i = 0; (set = qsdk_arrays(i)); i++)
        if (runs(set->features))
            try_all();
        else
            printf("skipped %s: this CPU has not all of %s\n", set->name, set->features);
    return summary();
}
