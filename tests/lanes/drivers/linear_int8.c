/* Every instruction set of native/linear_int8 that this CPU has, on whole calls, against plain sums
 * in 64 bits. An input is one row of a call; each set gets at least 100,000. */
#include "driver.h"
#include "linear_int8_set.h"

#include <float.h>
#include <math.h>

#ifdef QSDK_LINEAR_INT8_NEW_X86
#include "amx_model.h"
#define qsdk_linear_int8_amx modelled_amx
extern const struct qsdk_linear_int8_set modelled_amx;
#include "../../../native/linear_int8/amx.c"
#undef qsdk_linear_int8_amx
#undef ROWS
#endif

#define ROWS_MOST 40
#define OUTPUTS_MOST 150
#define INPUTS_MOST 600

enum { RANDOM, LOWEST, HIGHEST, ALTERNATING, KINDS }; /* of weights and codes */

struct layer { /* what a packed layer came from */
    struct qsdk_linear_int8 packed;
    int8_t codes[OUTPUTS_MOST * INPUTS_MOST];
    int32_t zeros[OUTPUTS_MOST + 16], sums[OUTPUTS_MOST + 16], start[OUTPUTS_MOST + 16];
    float scale[OUTPUTS_MOST + 16], bias[OUTPUTS_MOST + 16];
    int64_t addend[OUTPUTS_MOST + 16];
    int32_t mantissa[OUTPUTS_MOST + 16], right[OUTPUTS_MOST + 16];
};

/* Oracles. */

static int64_t nearest(double value) /* halves to even */
{
    const double below = floor(value), rest = value - below;
    const int64_t whole = (int64_t)below;
    return rest > 0.5 || (rest == 0.5 && whole % 2 != 0) ? whole + 1 : whole;
}

static double held(double value, double low, double high) /* NaN: low */
{
    return value > high ? high : value >= low ? value : low;
}

static int oracle_code(float x, float scale, int qmin, int zero)
{
    const float steps = x / scale;
    return (int)nearest(held((double)steps, qmin - zero, qmin + 255 - zero)) + zero;
}

static float oracle_scale(const float *x, size_t n, int is_signed, int *zero)
{
    double low = 0, high = 0;
    *zero = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return NAN;
        low = fmin(low, (double)x[i]), high = fmax(high, (double)x[i]);
    }
    if (is_signed)
        high = fmax(high, -low), low = -high;
    if (low == high)
        return 1;
    const double step = is_signed ? high / 127 : (high - low) / 255;
    const float scale = (float)fmin(fmax(step, (double)FLT_MIN), (double)FLT_MAX);
    if (!is_signed)
        *zero = (int)held(-(double)nearest((double)((float)low / scale)), 0, 255);
    const double reach = is_signed ? 128 : fmax(*zero, 255 - *zero);
    return fminf(scale, (float)((double)FLT_MAX * (1 - ldexp(1, -20)) / reach));
}

static int oracle_fits(enum qsdk_linear_int8_room room, int a, int b)
{
    static const int ends[] = {0, 255};
    if (room == QSDK_LINEAR_INT8_NARROW)
        return a > -128 && b > -128;
    for (int i = 0; i < 4 && room == QSDK_LINEAR_INT8_PAIRS; i++) {
        const int sum = ends[i / 2] * a + ends[i % 2] * b;
        if (sum < -32768 || sum > 32767)
            return 0;
    }
    return 1;
}

/* codes, scale and zero_point of one row of input */
static void oracle_row(const struct qsdk_linear_int8 *layer, const void *x, int *codes,
                       float *scale, int *zero)
{
    const float *values = x;
    const int8_t *given = x;
    const int qmin = layer->input_signed ? -128 : 0;
    *scale = layer->input_scale, *zero = layer->input_zero;
    if (layer->input == QSDK_LINEAR_INT8_ROWS)
        *scale = oracle_scale(values, layer->inputs, layer->input_signed, zero);
    for (size_t k = 0; k < layer->inputs; k++)
        if (layer->input == QSDK_LINEAR_INT8_CODES)
            codes[k] = layer->input_signed ? given[k] : (uint8_t)given[k];
        else
            codes[k] = isnan(*scale) ? *zero : oracle_code(values[k], *scale, qmin, *zero);
}

static int same_float(float a, float b)
{
    return a == b || (isnan(a) && isnan(b));
}

static int right_result(const struct qsdk_linear_int8 *layer, size_t n, int64_t acc, float scale,
                        const void *y)
{
    if (layer->output == QSDK_LINEAR_INT8_INT32)
        return ((const int32_t *)y)[n] == (int32_t)acc;
    if (layer->output == QSDK_LINEAR_INT8_FLOAT) {
        const float scales = scale * layer->scale[n], product = (float)(int32_t)acc * scales;
        const float sum = product + layer->bias[n];
        const float low = sum < layer->low ? layer->low : sum;
        return same_float(((const float *)y)[n], low > layer->high ? layer->high : low);
    }
    /* floor((acc * mantissa + addend) / 2^right), in parts that are exact */
    const int64_t whole = (int64_t)1 << layer->right[n];
    const int64_t sum = acc * layer->mantissa[n] + layer->addend[n];
    const int64_t steps = sum / whole - (sum % whole < 0);
    const double code = held((double)steps + layer->output_zero, layer->output_low,
                             layer->output_high);
    return ((const uint8_t *)y)[n] == (uint8_t)(int)code;
}

/* Inputs. */

static int one_byte(int kind, size_t i)
{
    switch (kind) {
    case LOWEST: return -128;
    case HIGHEST: return 127;
    case ALTERNATING: return i % 3 ? -128 : 127;
    default: return (int)draw(256) - 128;
    }
}

static float one_float(int kind, size_t i, float scale)
{
    static const float odd[] = {0, -0.0f, FLT_MAX, -FLT_MAX, FLT_MIN, 1e-45f, -3e-39f, 0.5f};
    switch (kind) {
    case 0: return ((float)draw(1 << 20) / (1 << 19) - 1) * 3;
    case 1: return (float)((int)draw(1021) - 510) / 4; /* ties, where the scale is 1 or 1/2 */
    case 2: return 0;
    case 3: return odd[draw(8)];
    case 4: return i == 0 ? 127 : (float)((int)draw(511) - 255) / 2; /* scale 1, ties */
    case 5: return (float)draw(1000) * 1e-42f;
    case 7: return (i ? (float)((int)draw(511) - 255) / 2 : 127) * scale; /* ties but for rounding */
    case 6: return draw(40) ? (float)draw(100) : draw(2) ? NAN : -INFINITY;
    default: return -(float)draw(1000) * 1e35f;
    }
}

static void fill_layer(struct layer *layer, const struct qsdk_linear_int8_set *set, size_t inputs,
                       size_t outputs, int kind)
{
    const int room = set->room, narrow = room == QSDK_LINEAR_INT8_PAIRS;
    for (size_t i = 0; i < inputs * outputs; i++) {
        const int code = one_byte(kind, i);
        layer->codes[i] = (int8_t)(narrow ? code / 2 : room && code < -127 ? -127 : code);
    }
    const int has_zeros = draw(2);
    for (size_t n = 0; n < outputs + 16; n++) {
        layer->zeros[n] = has_zeros && n < outputs ? one_byte(kind, n) : 0;
        layer->scale[n] = (float)(1 + draw(1000)) / 997;
        layer->bias[n] = draw(3) ? (float)draw(1000) - 500 : -0.0f;
        layer->mantissa[n] = (int32_t)(((uint32_t)1 << 30) + draw((uint32_t)1 << 30));
        layer->right[n] = 20 + (int32_t)draw(40);
        layer->addend[n] = ((int64_t)draw(1 << 30) - (1 << 29)) * layer->mantissa[n];
    }
    layer->packed = (struct qsdk_linear_int8){
        .set = set, .inputs = inputs, .outputs = outputs, .sums = layer->sums,
        .start = layer->start, .zeros = layer->zeros, .scale = layer->scale, .bias = layer->bias,
        .addend = layer->addend, .mantissa = layer->mantissa, .right = layer->right,
        .has_zeros = has_zeros,
    };
}

static void fill_form(struct qsdk_linear_int8 *layer)
{
    layer->input = (int32_t)draw(3);
    layer->input_signed = (int32_t)draw(2);
    layer->input_zero = 0;
    if (layer->input != QSDK_LINEAR_INT8_ROWS)
        layer->input_zero = (int32_t)draw(256) - 128 * layer->input_signed;
    layer->input_scale = draw(2) ? 0.5f : draw(20) ? (float)(1 + draw(500)) / 600 : 1e-39f;
    layer->output = (int32_t)draw(3);
    if (layer->output != QSDK_LINEAR_INT8_FLOAT && layer->input == QSDK_LINEAR_INT8_ROWS)
        layer->output = QSDK_LINEAR_INT8_FLOAT;
    const int qmin = draw(2) ? -128 : 0;
    layer->output_zero = qmin + (int32_t)draw(256);
    layer->output_low = draw(2) ? qmin : layer->output_zero;
    layer->output_high = qmin + 255;
    layer->low = draw(2) ? -INFINITY : 0;
    layer->high = draw(2) ? INFINITY : 600;
}

static void try_call(struct layer *layer, size_t rows, int kind)
{
    static int codes[INPUTS_MOST];
    struct qsdk_linear_int8 *packed = &layer->packed;
    fill_form(packed);
    uint8_t *weights = guarded(0, qsdk_linear_int8_packed_bytes(packed->inputs, packed->outputs));
    packed->weights = weights;
    qsdk_linear_int8_pack(packed, layer->codes, weights, layer->sums, layer->start);
    const int is_float = packed->input != QSDK_LINEAR_INT8_CODES;
    uint8_t *x = guarded(1, rows * packed->inputs * (is_float ? 4 : 1));
    for (size_t i = 0; i < rows * packed->inputs; i++)
        if (is_float)
            ((float *)(void *)x)[i] = one_float(kind % 9, i % packed->inputs, packed->input_scale);
        else
            x[i] = (uint8_t)(one_byte(kind % KINDS, i) + 128 * !packed->input_signed);
    const size_t width = packed->output == QSDK_LINEAR_INT8_REQUANTIZED ? 1 : 4;
    uint8_t *y = guarded(2, rows * packed->outputs * width);
    const size_t bytes = (qsdk_linear_int8_scratch(packed, rows) + 63) / 64 * 64;
    qsdk_linear_int8_run(packed, x, rows, y, guarded(3, bytes), 1 + (int)draw(2));
    for (size_t m = 0; m < rows; m++) {
        float scale;
        int zero, right = 1;
        oracle_row(packed, x + m * packed->inputs * (is_float ? 4 : 1), codes, &scale, &zero);
        for (size_t n = 0; n < packed->outputs; n++) {
            int64_t acc = 0;
            for (size_t k = 0; k < packed->inputs; k++)
                acc += (codes[k] - zero) *
                       (int64_t)(layer->codes[n * packed->inputs + k] - layer->zeros[n]);
            right &= right_result(packed, n, acc, scale, y + m * packed->outputs * width);
        }
        expect(right, packed->set->name, packed->input * 10 + packed->output,
               (long)packed->outputs, (long)packed->inputs);
    }
}

static void try_room(const struct qsdk_linear_int8_set *set)
{
    for (int a = -128; a < 128; a++)
        for (int b = -128; b < 128; b++) {
            const int8_t codes[4] = {0, 0, (int8_t)a, (int8_t)b};
            expect(qsdk_linear_int8_fits(set, codes, 1, 4) == oracle_fits(set->room, a, b),
                   "whether two weights fit", a, b, set->room);
        }
}

static void try_set(const struct qsdk_linear_int8_set *set)
{
    static struct layer layer;
    const size_t before = inputs;
    try_room(set);
    const size_t rooms = inputs;
    for (int round = 0; inputs - rooms < 100000; round++)
        for (size_t length = 0; length <= 160; length++) {
            const size_t k = draw(40) ? length : length + (size_t)draw(INPUTS_MOST - 160);
            const int kind = (int)draw(2 * KINDS);
            fill_layer(&layer, set, k, 1 + (draw(6) ? draw(20) : draw(OUTPUTS_MOST)),
                       kind < KINDS ? kind : RANDOM);
            try_call(&layer, 1 + (draw(3) ? draw(8) : draw(ROWS_MOST)), (int)draw(9 * KINDS));
        }
    printf("%s %zu\n", set->name, inputs - before);
}

/* Set, and the features that it needs. */
static const char *const sets[][5] = {
    {"portable"},
    {"avx2", "avx2"},
    {"avx2_pairs", "avx2"},
    {"avxvnni", "avxvnni"},
    {"avx512bw", "avx512bw", "avx512dq"},
    {"avx512bw_pairs", "avx512bw", "avx512dq"},
    {"avx512vnni", "avx512bw", "avx512dq", "avx512vnni"},
    {"amx", "avx512bw", "avx512dq", "avx512vnni", "amx_int8"},
    {"neon", "neon"},
    {"neon_pairs", "neon"},
    {"dotprod", "dotprod"},
    {"i8mm", "i8mm"},
};

int main(void)
{
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        const struct qsdk_linear_int8_set *set = qsdk_linear_int8_find(sets[s][0]);
        const char *missing = set ? NULL : "this build";
        for (int f = 1; f < 5 && sets[s][f]; f++)
            if (set && !has_feature(sets[s][f]))
                missing = "this CPU";
        if (missing)
            printf("%s skipped: not in %s\n", sets[s][0], missing);
        else
            try_set(set);
    }
#ifdef QSDK_LINEAR_INT8_NEW_X86
    printf("amx, its tiles modelled: ");
    if (has_feature("avx512bw") && has_feature("avx512dq") && has_feature("avx512vnni"))
        try_set(&modelled_amx);
    else
        printf("skipped: this CPU has no AVX-512 with VNNI\n");
#endif
    return summary();
}
