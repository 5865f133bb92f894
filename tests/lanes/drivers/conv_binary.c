/* Every instruction set of native/conv_binary that this CPU has, on whole calls, against sums place by
 * place over digits. Digits of images are those of the portable coder, which has a driver of its
 * own. An input is one result; each set gets far more than 100,000, of 900 layers. */
#include "driver.h"
#include "conv_binary.h"

#include <float.h>
#include <math.h>

enum {
    PLANES = 4,
    OUTPUTS_MOST = 140,
    WEIGHTS_MOST = 1 << 16,
    IMAGE_MOST = 1 << 15,
    LAYERS = 900, /* of a set */
};

/* A layer as it is given; what is of one group is said so. */
struct given {
    size_t images, groups, channels, outputs, height, width; /* channels, outputs: of a group */
    size_t kernel[2], stride[2], dilation[2], begin[2], end[2], out[2];
    int planes, bits, scale_map;
};

static int8_t digit[PLANES][WEIGHTS_MOST]; /* [plane][output][channel][i][j] */
static float alpha[PLANES][OUTPUTS_MOST], bias[OUTPUTS_MOST];

static float some(void)
{
    return (float)(int32_t)(draw(2000001) - 1000000) / 400000;
}

static int bit(const uint64_t *words, size_t k)
{
    return (int)(words[k / 64] >> k % 64 & 1);
}

/* Where a place of the kernel lies in an image; 0 where that is beside it. */
static int inside(const struct given *g, size_t row, size_t column, size_t i, size_t j, size_t *at)
{
    const size_t y = row * g->stride[0] + i * g->dilation[0] - g->begin[0];
    const size_t x = column * g->stride[1] + j * g->dilation[1] - g->begin[1];
    *at = y * g->width + x;
    return y < g->height && x < g->width; /* else padding, or wrapped around below 0 */
}

static float map_of(const struct given *g, const float *x, size_t group, size_t row, size_t column)
{
    const size_t places = g->height * g->width;
    float sum = 0;
    for (size_t i = 0; i < g->kernel[0]; i++)
        for (size_t j = 0; j < g->kernel[1]; j++) {
            size_t at;
            float mean = 0;
            if (!inside(g, row, column, i, j, &at))
                continue;
            for (size_t c = 0; c < g->channels; c++)
                mean += fabsf(x[(group * g->channels + c) * places + at]);
            sum += mean / (float)g->channels;
        }
    return sum / (float)(g->kernel[0] * g->kernel[1]);
}

/* One result of an image with these betas and words [plane][words]. */
static float oracle(const struct given *g, const float *x, const float *beta, const uint64_t *words,
                    size_t output, size_t row, size_t column)
{
    const size_t places = g->height * g->width, values = g->groups * g->channels * places;
    const size_t group = output / g->outputs, taps = g->kernel[0] * g->kernel[1];
    float y = 0;
    for (int p = 0; p < g->planes; p++) {
        float t = 0;
        for (int b = 0; b < g->bits; b++) {
            const uint64_t *plane = words + (size_t)b * ((values + 63) / 64);
            int dot = 0;
            for (size_t c = 0; c < g->channels; c++)
                for (size_t tap = 0; tap < taps; tap++) {
                    size_t at;
                    if (!inside(g, row, column, tap / g->kernel[1], tap % g->kernel[1], &at))
                        continue;
                    const int sign = bit(plane, (group * g->channels + c) * places + at) ? 1 : -1;
                    dot += sign * digit[p][(output * g->channels + c) * taps + tap];
                }
            const float scale = g->scale_map ? map_of(g, x, group, row, column) : beta[b];
            t += scale * (float)dot;
        }
        y += alpha[p][output] * t;
    }
    return y;
}

/* As conv_binary.h orders the bits of weights, and alphas. */
static void pack(const struct given *g, const struct qsdk_conv_binary_set *set, uint8_t *packed,
                 float *alphas)
{
    const size_t rows = qsdk_conv_binary_block_rows(set), bytes = qsdk_conv_binary_lane_bytes(set);
    const size_t blocks = (g->outputs + rows - 1) / rows, taps = g->kernel[0] * g->kernel[1];
    const size_t lanes = (g->channels + 8 * bytes - 1) / (8 * bytes);
    memset(packed, 0, g->groups * blocks * (size_t)g->planes * taps * lanes * rows * bytes);
    memset(alphas, 0, g->groups * blocks * (size_t)g->planes * rows * sizeof *alphas);
    for (size_t n = 0; n < g->groups * g->outputs; n++)
        for (size_t p = 0; p < (size_t)g->planes; p++) {
            const size_t row = n % g->outputs, block = n / g->outputs * blocks + row / rows;
            const size_t plane = block * (size_t)g->planes + p;
            alphas[plane * rows + row % rows] = alpha[p][n];
            for (size_t c = 0; c < g->channels; c++)
                for (size_t tap = 0; tap < taps; tap++) {
                    const size_t lane = (plane * taps + tap) * lanes + c / (8 * bytes);
                    const size_t at = (lane * rows + row % rows) * bytes + c / 8 % bytes;
                    const int plus = digit[p][(n * g->channels + c) * taps + tap] > 0;
                    packed[at] = (uint8_t)(packed[at] | plus << c % 8);
                }
        }
}

static void try_layer(const struct given *g, const struct qsdk_conv_binary_set *set, int clipped)
{
    static uint64_t words[PLANES * (IMAGE_MOST / 64 + 1)];
    const size_t all = g->groups * g->outputs, taps = g->kernel[0] * g->kernel[1];
    const size_t values = g->groups * g->channels * g->height * g->width;
    const size_t places = g->out[0] * g->out[1], rows = qsdk_conv_binary_block_rows(set);
    const size_t bytes = qsdk_conv_binary_lane_bytes(set);
    const size_t blocks = g->groups * ((g->outputs + rows - 1) / rows) * (size_t)g->planes;
    const size_t lanes = (g->channels + 8 * bytes - 1) / (8 * bytes);
    if (all > OUTPUTS_MOST || all * g->channels * taps > WEIGHTS_MOST || values > IMAGE_MOST)
        exit(2);
    for (size_t p = 0; p < PLANES; p++) {
        for (size_t n = 0; n < all; n++)
            alpha[p][n] = fabsf(some());
        for (size_t k = 0; k < all * g->channels * taps; k++)
            digit[p][k] = draw(2) ? 1 : -1;
    }
    uint8_t *packed = guarded(0, blocks * taps * lanes * rows * bytes);
    float *alphas = guarded(1, blocks * rows * sizeof *alphas);
    float *biases = guarded(2, all * sizeof *biases), *x = guarded(3, g->images * values * sizeof *x);
    float *y = guarded(4, g->images * all * places * sizeof *y);
    float *again = guarded(5, g->images * all * places * sizeof *y);
    pack(g, set, packed, alphas);
    for (size_t n = 0; n < all; n++)
        biases[n] = bias[n] = some();
    for (size_t k = 0; k < g->images * values; k++)
        x[k] = some();
    if (g->images > 1 && draw(4) == 0)
        x[draw((uint32_t)values)] = draw(2) ? NAN : INFINITY;
    const qsdk_conv_binary layer = {
        .set = set, .groups = g->groups, .channels = g->channels, .outputs = g->outputs,
        .height = g->height, .width = g->width, .out_height = g->out[0], .out_width = g->out[1],
        .kernel = {g->kernel[0], g->kernel[1]}, .stride = {g->stride[0], g->stride[1]},
        .dilation = {g->dilation[0], g->dilation[1]}, .begin = {g->begin[0], g->begin[1]},
        .planes = g->planes, .bits = g->bits, .cycles = 2, .scale_map = g->scale_map,
        .weights = packed, .alpha = alphas, .bias = clipped ? biases : NULL,
        .low = clipped ? -1.0f : -INFINITY, .high = clipped ? 9.0f : INFINITY,
    };
    const size_t scratch = qsdk_conv_binary_scratch(&layer, g->images);
    qsdk_conv_binary_run(&layer, x, g->images, y, guarded(6, scratch), 1);
    qsdk_conv_binary_run(&layer, x, g->images, again, guarded(6, scratch), 2);
    expect(!memcmp(y, again, g->images * all * places * sizeof *y), set->name, -1, -1, -1);
    const qsdk_sign_how how = {g->bits, QSDK_SIGN_GREEDY, 1, 2, 0};
    for (size_t image = 0; image < g->images; image++) {
        float beta[PLANES];
        const float *of = x + image * values;
        qsdk_sign_codes_rows(qsdk_sign_codes_find("portable"), of, 1, values, &how, beta, words, 1);
        for (size_t r = 0; r < all * places; r++) {
            const size_t n = r / places, place = r % places;
            const float given = y[image * all * places + r];
            float wanted = oracle(g, of, beta, words, n, place / g->out[1], place % g->out[1]);
            if (clipped)
                wanted = fminf(fmaxf(wanted + bias[n], -1.0f), 9.0f);
            const int is_nan = beta[0] != beta[0];
            expect(is_nan ? given != given : !memcmp(&given, &wanted, sizeof given), set->name,
                   (long)r, (long)(100 * g->kernel[0] + g->kernel[1]),
                   (long)(1000 * g->channels + 100 * g->stride[1] + 10 * g->dilation[1]) + g->bits);
        }
    }
}

static void try_some(const struct qsdk_conv_binary_set *set, int seed)
{
    static const size_t channels[] = {1, 3, 8, 20, 63, 64, 65, 130};
    static const size_t outputs[] = {1, 2, 7, 8, 9, 33, 64, 65};
    struct given g = {.images = 1 + draw(3), .groups = 1 + draw(2) * draw(2),
                      .channels = channels[draw(8)], .outputs = outputs[draw(8)],
                      .height = 1 + draw(5), .width = 1 + draw(seed % 7 ? 9 : 60),
                      .planes = 1 + (int)draw(4), .bits = 1 + (int)draw(4)};
    g.scale_map = g.bits == 1 && draw(2);
    if (g.channels > 20 || g.width > 9) /* the oracle is slow */
        g.height = 1 + draw(2), g.outputs = outputs[draw(4)];
    for (int axis = 0; axis < 2; axis++) {
        const size_t size = axis ? g.width : g.height;
        g.kernel[axis] = 1 + draw(seed % 5 ? 3 : 5);
        g.stride[axis] = 1 + draw(3);
        g.dilation[axis] = 1 + draw(2) * draw(3);
        g.begin[axis] = draw(4);
        g.end[axis] = draw(4);
        const size_t reach = g.dilation[axis] * (g.kernel[axis] - 1) + 1;
        while (size + g.begin[axis] + g.end[axis] < reach)
            g.end[axis]++;
        g.out[axis] = (size + g.begin[axis] + g.end[axis] - reach) / g.stride[axis] + 1;
    }
    try_layer(&g, set, seed % 2);
}

int main(void)
{
    static const char *const sets[][2] = {
        {"portable", NULL},
        {"avx2", "avx2"},
        {"avx512vpopcntdq", "avx512vpopcntdq"},
        {"neon", "neon"},
    };
    for (size_t s = 0; s < sizeof sets / sizeof *sets; s++) {
        const struct qsdk_conv_binary_set *set = qsdk_conv_binary_find(sets[s][0]);
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
