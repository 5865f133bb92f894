/* Every instruction set of native/conv_int8 that this CPU has, on whole calls, against plain sums in
 * 64 bits. An input is one result; each set gets far more than 100,000, of 400 layers. */
#include "driver.h"
#include "conv_int8_set.h"

#include <math.h>

enum { RANDOM, LOWEST, HIGHEST, KINDS }; /* of weights and codes */

enum {
    OUTPUTS_MOST = 64,
    STEPS_MOST = 4096,
    WEIGHTS_MOST = 1 << 17,
    IMAGE_MOST = 1 << 14,
    RESULT_MOST = 1 << 15,
    LAYERS = 400, /* of a set */
};

/* A layer as it is given: steps of weights [group][output][channel][i][j]. */
struct given {
    size_t images, groups, channels, outputs, height, width;
    size_t kernel[2], stride[2], dilation[2], begin[2], end[2];
    int most; /* largest magnitude of a weight */
};

static int weights[WEIGHTS_MOST];
static float scale[OUTPUTS_MOST], bias[OUTPUTS_MOST];

static int either(int kind, int lowest, int highest)
{
    return kind == LOWEST    ? lowest
           : kind == HIGHEST ? highest
                             : lowest + (int)draw((uint32_t)(highest - lowest + 1));
}

static size_t length(const struct given *g, size_t size, int axis)
{
    const size_t padded = size + g->begin[axis] + g->end[axis];
    const size_t reach = g->dilation[axis] * (g->kernel[axis] - 1) + 1;
    return padded < reach ? 0 : (padded - reach) / g->stride[axis] + 1;
}

/* The part of a weight that one byte of `repeats` holds; all of it where it has 16 bits. */
static int part_of(int weight, size_t repeat, int is_wide)
{
    int left = weight, part = 0;
    for (size_t i = 0; i <= repeat; i++) {
        part = is_wide ? left : left < -128 ? -128 : left > 127 ? 127 : left;
        left -= part;
    }
    return part;
}

/* Weight number q (0 to 3) of a quad: what conv_int8.h says it is; 0 where there is none. */
static int weight_of(const struct given *g, size_t output, size_t plane, size_t i, size_t j, size_t q)
{
    const int spans = g->channels == 1 && g->kernel[1] > 1;
    const size_t across = spans && g->dilation[1] == 1 ? 4 : 1;
    const size_t channel = spans ? 0 : 4 * plane + q, column = spans ? across * j + q : j;
    if (channel >= g->channels || column >= g->kernel[1] || (spans && q >= across))
        return 0;
    return weights[((output * g->channels + channel) * g->kernel[0] + i) * g->kernel[1] + column];
}

static void store(void *packed, size_t at, size_t q, int value, int is_wide)
{
    static const size_t order[] = {0, 2, 1, 3};
    const int16_t wide = (int16_t)value;
    const int8_t narrow = (int8_t)value;
    if (is_wide)
        memcpy((char *)packed + 8 * at + 2 * order[q], &wide, sizeof wide);
    else
        memcpy((char *)packed + 4 * at + q, &narrow, sizeof narrow);
}

/* Weights of a layer that goes by row. */
static void pack_pairs(const struct given *g, const struct qsdk_conv_int8 *layer, void *packed)
{
    const size_t columns = g->kernel[1], of_pair = g->dilation[1] == 1 ? 2 : 1;
    int16_t *to = packed;
    for (size_t group = 0; group < g->groups; group++)
        for (size_t n = 0; n < layer->blocks * layer->block; n++)
            for (size_t i = 0; i < g->kernel[0]; i++)
                for (size_t p = 0; p < layer->pairs; p++)
                    for (size_t q = 0; q < 2; q++) {
                        const size_t row = (group * g->outputs + n) * g->kernel[0] + i, j = of_pair * p + q;
                        const int is_there = n < g->outputs && q < of_pair && j < columns;
                        *to++ = (int16_t)(is_there ? weights[row * columns + j] : 0);
                    }
}

static void pack(const struct given *g, const struct qsdk_conv_int8 *layer, int is_wide, void *packed,
                 int32_t *sums)
{
    const size_t taps = g->channels * g->kernel[0] * g->kernel[1];
    const size_t quads = layer->pairs ? 0 : layer->quads;
    for (size_t group = 0; group < g->groups; group++)
        for (size_t n = 0; n < layer->blocks * layer->block; n++) {
            const size_t output = group * g->outputs + n, b = n / layer->block;
            int32_t *sum = sums + group * layer->blocks * layer->block + n;
            *sum = 0;
            for (size_t t = 0; n < g->outputs && t < taps; t++)
                *sum += weights[output * taps + t];
            size_t at = (group * layer->blocks + b) * layer->steps * layer->block + n % layer->block;
            for (size_t r = 0; r < layer->repeats; r++)
                for (size_t plane = 0; plane < layer->planes; plane++)
                    for (size_t i = 0; i < g->kernel[0]; i++)
                        for (size_t j = 0; j < quads; j++, at += layer->block)
                            for (size_t q = 0; q < 4; q++) {
                                const int weight =
                                    n < g->outputs ? weight_of(g, output, plane, i, j, q) : 0;
                                store(packed, at, q, part_of(weight, r, is_wide), is_wide);
                            }
        }
}

/* The accumulator of one result, from steps of an image: codes minus zero_point. */
static int64_t oracle(const struct given *g, const int *steps, size_t output, size_t row, size_t column)
{
    const size_t first = output / g->outputs * g->channels;
    int64_t sum = 0;
    for (size_t c = 0; c < g->channels; c++)
        for (size_t i = 0; i < g->kernel[0]; i++)
            for (size_t j = 0; j < g->kernel[1]; j++) {
                const size_t y = row * g->stride[0] + i * g->dilation[0] - g->begin[0];
                const size_t x = column * g->stride[1] + j * g->dilation[1] - g->begin[1];
                if (y < g->height && x < g->width) /* else padding, or wrapped around below 0 */
                    sum += (int64_t)steps[((first + c) * g->height + y) * g->width + x] *
                           weights[((output * g->channels + c) * g->kernel[0] + i) * g->kernel[1] + j];
            }
    return sum;
}

static float as_float(int64_t acc, size_t output, float scale_x, float low, float high)
{
    const float factor = scale_x * scale[output];
    float y = (float)acc * factor;
    y = y + bias[output];
    return fminf(fmaxf(y, low), high);
}

static int as_code(const struct qsdk_conv_int8 *layer, size_t at, int64_t acc)
{
    const int64_t product = acc * layer->mantissa[at] + layer->addend[at];
    const int64_t unit = (int64_t)1 << layer->right[at];
    int64_t steps = product / unit - (product % unit < 0); /* downwards */
    steps += layer->output_zero;
    return (int)(steps < layer->output_low    ? layer->output_low
                 : steps > layer->output_high ? layer->output_high
                                              : steps);
}

static void try_layer(const struct given *g, const struct qsdk_conv_int8_set *set, int kind, int input,
                      int output)
{
    static int steps[IMAGE_MOST];
    static size_t offsets[STEPS_MOST];
    static struct qsdk_conv_int8_vector at[RESULT_MOST];
    static float scales[OUTPUTS_MOST * 8], biases[OUTPUTS_MOST * 8];
    static int64_t addend[OUTPUTS_MOST * 8];
    static int32_t mantissa[OUTPUTS_MOST * 8], right[OUTPUTS_MOST * 8], sums[OUTPUTS_MOST * 8];
    const size_t high = length(g, g->height, 0), wide = length(g, g->width, 1), places = high * wide;
    const size_t all = g->groups * g->outputs, taps = g->channels * g->kernel[0] * g->kernel[1];
    const size_t values = g->groups * g->channels * g->height * g->width;
    if (!places)
        return;
    struct qsdk_conv_int8 layer = {
        .set = set, .groups = g->groups, .channels = g->channels, .outputs = g->outputs,
        .height = g->height, .width = g->width, .repeats = 1, .workers = 2, .input = input,
        .output = output, .input_signed = (int)draw(2), .output_zero = 3, .output_low = -100,
        .output_high = 90, .input_scale = 0.05f, .low = -1e9f, .high = 1e9f, .sums = sums,
        .scale = scales, .bias = biases, .addend = addend, .mantissa = mantissa, .right = right,
        .offsets = offsets, .at = at,
    };
    memcpy(layer.kernel, g->kernel, sizeof g->kernel);
    memcpy(layer.stride, g->stride, sizeof g->stride);
    memcpy(layer.dilation, g->dilation, sizeof g->dilation);
    memcpy(layer.begin, g->begin, sizeof g->begin);
    memcpy(layer.end, g->end, sizeof g->end);
    for (layer.block = 1; layer.block < qsdk_conv_int8_block(set) && layer.block < g->outputs;)
        layer.block *= 2;
    layer.blocks = (g->outputs + layer.block - 1) / layer.block;
    if (!qsdk_conv_int8_is_wide(set))
        layer.repeats = g->most > 254 ? 3 : g->most > 127 ? 2 : 1;
    const int lowest = layer.input_signed ? -128 : 0;
    layer.input_zero = lowest + (int)draw(256);
    for (size_t n = 0; n < all * taps; n++)
        weights[n] = either(kind == RANDOM ? RANDOM : 1 + (int)draw(2), -g->most, g->most);
    for (size_t n = 0; n < all; n++) {
        const size_t to = n / g->outputs * layer.blocks * layer.block + n % g->outputs;
        scales[to] = scale[n] = 0.001f * (float)(1 + draw(1000));
        biases[to] = bias[n] = 0.01f * (float)draw(1000) - 5;
        mantissa[to] = (int32_t)((1u << 30) + draw(2) * draw(1u << 30)); /* some make halves */
        right[to] = 38 + (int32_t)draw(8);
        addend[to] = ((int64_t)1 << (right[to] - 1)) + (int64_t)draw(1000) * mantissa[to];
    }
    if (qsdk_conv_int8_fit(&layer))
        exit(2);
    const int is_wide = qsdk_conv_int8_is_wide(set);
    const size_t packed = all * 8 * 4 * (layer.pairs ? g->kernel[0] * layer.pairs
                                                     : layer.steps * (is_wide ? 2 : 1));
    if (layer.steps > STEPS_MOST || layer.vectors > RESULT_MOST || values * g->images > IMAGE_MOST)
        exit(2);
    layer.weights = guarded(0, g->groups * layer.blocks * layer.block * (packed / all / 8));
    pack(g, &layer, is_wide, (void *)(uintptr_t)layer.weights, sums);
    expect(layer.pairs == qsdk_conv_int8_pairs(&layer), set->name, (long)layer.pairs, -1, -1);
    if (layer.pairs)
        pack_pairs(g, &layer, (void *)(uintptr_t)layer.weights);
    qsdk_conv_int8_place(&layer);
    const int is_codes = input == QSDK_LINEAR_INT8_CODES;
    void *x = guarded(1, g->images * values * (is_codes ? 1 : 4));
    const float unit = input == QSDK_LINEAR_INT8_ROWS ? 0.25f : layer.input_scale;
    if (input == QSDK_LINEAR_INT8_ROWS)
        layer.input_zero = layer.input_signed ? 0 : 130;
    for (size_t v = 0; v < g->images * values; v++) {
        int code = either(kind, lowest, lowest + 255);
        if (input == QSDK_LINEAR_INT8_ROWS) { /* ends that make the scale 1/4, the zero as above */
            code = layer.input_signed && code < -127 ? -127 : code;
            code = v % values == 0 ? lowest + 255 : v % values == 1 ? lowest + layer.input_signed : code;
        }
        steps[v] = code - layer.input_zero;
        const uint8_t byte = (uint8_t)code;
        const float real = unit * (float)steps[v];
        memcpy((char *)x + v * (is_codes ? 1 : 4), is_codes ? (const void *)&byte : (const void *)&real,
               is_codes ? 1 : 4);
    }
    const size_t width = output == QSDK_LINEAR_INT8_REQUANTIZED ? 1 : 4;
    char *y = guarded(2, g->images * all * places * width);
    char *again = guarded(3, g->images * all * places * width);
    const size_t scratch = (qsdk_conv_int8_scratch(&layer, g->images) + 63) / 64 * 64;
    qsdk_conv_int8_run(&layer, x, g->images, y, guarded(4, scratch), 1);
    qsdk_conv_int8_run(&layer, x, g->images, again, guarded(4, scratch), 2);
    expect(!memcmp(y, again, g->images * all * places * width), set->name, -1, -1, -1);
    for (size_t r = 0; r < g->images * all * places; r++) {
        const size_t image = r / places / all, n = r / places % all, p = r % places;
        const int64_t acc = oracle(g, steps + image * values, n, p / wide, p % wide);
        const size_t to = n / g->outputs * layer.blocks * layer.block + n % g->outputs;
        const float real = as_float(acc, n, unit, layer.low, layer.high);
        int32_t whole;
        memcpy(&whole, y + r * width, width == 4 ? 4 : 1);
        int right_one;
        if (output == QSDK_LINEAR_INT8_FLOAT)
            right_one = !memcmp(y + r * 4, &real, 4);
        else if (output == QSDK_LINEAR_INT8_INT32)
            right_one = whole == acc;
        else
            right_one = (int8_t)y[r] == as_code(&layer, to, acc);
        expect(right_one, set->name, (long)r, (long)(100 * g->kernel[0] + g->kernel[1]),
               (long)(1000 * g->channels + 100 * g->stride[1] + 10 * g->dilation[1] + (size_t)output));
    }
}

static void try_some(const struct qsdk_conv_int8_set *set, int seed)
{
    static const int most[] = {1, 7, 127, 128, 255};
    struct given g = {.images = 1 + draw(3), .groups = 1 + draw(3) * draw(2), .channels = 1 + draw(9),
                      .outputs = 1 + draw(18), .height = 1 + draw(9), .width = 1 + draw(22),
                      .most = most[draw(5)]};
    if (strstr(set->name, "pairs") && g.most > 64) /* 255 * (64 + 64) is what 16 bits hold */
        g.most = 64;
    if (seed % 3 == 0) { /* depthwise */
        g.groups = 1 + draw(6);
        g.channels = 1;
        g.outputs = 1 + draw(2) * draw(4);
        g.width += draw(2) * draw(70);
    }
    for (int axis = 0; axis < 2; axis++) {
        g.kernel[axis] = 1 + draw(seed % 5 ? 5 : 1);
        g.stride[axis] = 1 + draw(3);
        g.dilation[axis] = 1 + draw(2) * draw(3);
        g.begin[axis] = draw(3);
        g.end[axis] = draw(3);
    }
    if (seed % 10 == 0)
        for (int axis = 0; axis < 2; axis++)
            g.stride[axis] = 1, g.begin[axis] = g.end[axis] = 0;
    while (g.images * g.groups * g.channels * g.height * g.width < 2)
        g.width++;
    try_layer(&g, set, (int)draw(KINDS), QSDK_LINEAR_INT8_FIXED + (int)draw(2), (int)draw(3));
    if (g.groups * g.channels * g.height * g.width > 1)
        try_layer(&g, set, (int)draw(KINDS), QSDK_LINEAR_INT8_ROWS, QSDK_LINEAR_INT8_FLOAT);
}

int main(void)
{
    static const char *const sets[][2] = {
        {"portable", NULL},     {"avx2", "avx2"}, {"avx2_pairs", "avx2"},
        {"avxvnni", "avxvnni"}, {"avx512vnni", "avx512vnni"}, {"neon", "neon"}, {"dotprod", "dotprod"},
    };
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        const struct qsdk_conv_int8_set *set = qsdk_conv_int8_find(sets[s][0]);
        if (!set || (sets[s][1] && !has_feature(sets[s][1]))) {
            printf("skipped %s: not in this %s\n", sets[s][0], set ? "CPU" : "build");
            continue;
        }
        const size_t before = inputs;
        for (int seed = 0; seed < LAYERS; seed++)
            try_some(set, seed);
        printf("%s: %zu\n", sets[s][0], inputs - before);
    }
    return summary();
}
