/* A call: some images are coded, then rows of their results are worked on, each by one thread, all
 * blocks of outputs in turn. */
#include "conv_binary.h"

#include <math.h>
#include <string.h>

enum { PANEL = 8, PIECE = 32 }; /* images coded at once; places of a row of the result */

typedef struct qsdk_conv_binary_tile binary_tile_t;

/* The start of an image's scratch; then its codes and the map, then what coding needs. */
struct image {
    float beta[QSDK_CONV_BINARY_COLUMNS];
    int finite;
    char pad[64 - sizeof(float) * QSDK_CONV_BINARY_COLUMNS - sizeof(int)];
};

struct sizes {
    size_t codes, map, mean, words, all; /* bytes */
};

/* A run of places in a row of the result that see the same columns of the kernel. */
struct span {
    size_t place, count, first, last;
};

const struct qsdk_conv_binary_set *qsdk_conv_binary_find(const char *set)
{
    static const struct qsdk_conv_binary_set *const sets[] = {
        &qsdk_conv_binary_portable,
#if defined(__x86_64__) && defined(__GNUC__)
        &qsdk_conv_binary_avx2,
        &qsdk_conv_binary_avx512vpopcntdq,
#elif defined(__aarch64__)
        &qsdk_conv_binary_neon,
#endif
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (!strcmp(sets[i]->name, set))
            return sets[i];
    return NULL;
}

size_t qsdk_conv_binary_block_rows(const struct qsdk_conv_binary_set *set)
{
    return set->block_rows;
}

size_t qsdk_conv_binary_lane_bytes(const struct qsdk_conv_binary_set *set)
{
    return set->lane_bytes;
}

static size_t up_portable(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static struct sizes sizes_portable(const qsdk_conv_binary *layer)
{
    const size_t places = layer->height * layer->width, results = layer->out_height * layer->out_width;
    struct sizes sizes = {
        .codes = up_portable(layer->groups * places * qsdk_conv_binary_place_bytes_portable(layer)),
        .map = layer->scale_map ? up_portable(layer->groups * results * sizeof(float)) : 0,
        .mean = layer->scale_map ? up_portable(places * sizeof(float)) : 0,
        .words = up_portable(qsdk_conv_binary_words_portable(layer) * (size_t)layer->bits * 8),
    };
    sizes.all = sizeof(struct image) + sizes.codes + sizes.map + sizes.mean + sizes.words;
    return sizes;
}

size_t qsdk_conv_binary_scratch(const qsdk_conv_binary *layer, size_t images)
{
    return (images < PANEL ? images : PANEL) * sizes_portable(layer).all;
}

static void code_portable(const qsdk_conv_binary *layer, const float *x, char *scratch)
{
    const struct sizes sizes = sizes_portable(layer);
    struct image *image = (struct image *)(void *)scratch;
    char *codes = scratch + sizeof *image, *map = codes + sizes.codes;
    char *mean = map + sizes.map, *words = mean + sizes.mean;
    image->finite = qsdk_conv_binary_code_portable(
        layer, x, image->beta, (uint64_t *)(void *)words, (uint8_t *)codes, (float *)(void *)mean,
        (float *)(void *)map);
}

/* Places of a row from `place` on, all that see alike in one span; returns how many spans. */
static size_t spans_portable(const qsdk_conv_binary *layer, size_t place, size_t end,
                             struct span *spans)
{
    struct span *span = NULL;
    for (; place < end; place++) {
        size_t first, last;
        qsdk_conv_binary_seen_portable(layer, 1, place, &first, &last);
        if (span && span->first == first && span->last == last) {
            span->count++;
        } else {
            span = span ? span + 1 : spans;
            *span = (struct span){place, 1, first, last};
        }
    }
    return span ? (size_t)(span - spans) + 1 : 0;
}

static inline float finished_portable(const qsdk_conv_binary *layer, float sum, float bias)
{
    float y = layer->bias ? sum + bias : sum;
    y = y < layer->low ? layer->low : y;
    return y > layer->high ? layer->high : y;
}

/* [position][row of the block] to [row of the block][place]. */
static void turn_portable(const float *sums, size_t positions, size_t rows, float *y)
{
    float four[QSDK_CONV_BINARY_ROWS][4];
    if (positions == 4) { /* in two steps that compilers have shuffles for */
        for (size_t r = 0; r < rows; r++) {
            four[r][0] = sums[r];
            four[r][1] = sums[rows + r];
            four[r][2] = sums[2 * rows + r];
            four[r][3] = sums[3 * rows + r];
        }
        for (size_t r = 0; r < rows; r++)
            memcpy(y + r * PIECE, four[r], sizeof four[r]);
        return;
    }
    for (size_t p = 0; p < positions; p++)
        for (size_t r = 0; r < rows; r++)
            y[r * PIECE + p] = sums[p * rows + r];
}

/* Bias and clip of `rows` outputs from `first` on. */
static void finish_portable(const qsdk_conv_binary *layer, const float *sums, size_t places,
                            size_t first, size_t rows, float *y)
{
    const size_t apart = layer->out_height * layer->out_width;
    for (size_t r = 0; r < rows; r++, y += apart, sums += PIECE) {
        const float bias = layer->bias ? layer->bias[first + r] : 0;
        for (size_t p = 0; p < places; p++)
            y[p] = finished_portable(layer, sums[p], bias);
    }
}

/* The tile of `positions` places of a row from `place` on, one block of outputs. */
static void aim_portable(const qsdk_conv_binary *layer, const struct image *image, size_t group,
                         size_t row, const struct span *span, size_t place, binary_tile_t *tile)
{
    const size_t bytes = qsdk_conv_binary_place_bytes_portable(layer), bits = (size_t)layer->bits;
    const size_t results = layer->out_height * layer->out_width;
    const uint8_t *codes = (const uint8_t *)(image + 1);
    const float *map = (const float *)(const void *)(codes + sizes_portable(layer).codes);
    size_t top, bottom;
    qsdk_conv_binary_seen_portable(layer, 0, row, &top, &bottom);
    tile->down = bottom - top;
    tile->across = span->last - span->first;
    tile->places = (int32_t)(tile->down * tile->across * layer->channels);
    tile->apart = layer->stride[1] * bytes;
    tile->x = codes;
    if (tile->places) { /* else it sees nothing, and there may be nothing to point to */
        const size_t y = row * layer->stride[0] + top * layer->dilation[0] - layer->begin[0];
        const size_t x = place * layer->stride[1] + span->first * layer->dilation[1] - layer->begin[1];
        tile->x += ((group * layer->height + y) * layer->width + x) * bytes;
    }
    for (size_t c = 0; c < (size_t)tile->positions * bits; c++)
        tile->scale[c] = layer->scale_map
                             ? map[group * results + row * layer->out_width + place + c]
                             : image->beta[c % bits];
}

/* One block of outputs for places of one row. */
static void block_portable(const qsdk_conv_binary *layer, const struct image *image, size_t group,
                           size_t block, size_t row, const struct span *spans, size_t count, float *y)
{
    const size_t rows = layer->set->block_rows, planes = (size_t)layer->planes;
    const size_t blocks = (layer->outputs + rows - 1) / rows;
    const size_t left = layer->outputs - block * rows, most = QSDK_CONV_BINARY_COLUMNS / (size_t)layer->bits;
    const size_t plane = (group * blocks + block) * planes, tap = qsdk_conv_binary_tap_bytes_portable(layer);
    size_t top, bottom;
    qsdk_conv_binary_seen_portable(layer, 0, row, &top, &bottom);
    float turned[QSDK_CONV_BINARY_ROWS * PIECE];
    binary_tile_t tile = {.layer = layer, .alpha = layer->alpha + plane * rows};
    for (const struct span *span = spans; span < spans + count; span++) {
        tile.weights = layer->weights + plane * qsdk_conv_binary_plane_bytes_portable(layer) +
                       (top * layer->kernel[1] + span->first) * tap;
        for (size_t p = 0; p < span->count; p += most) {
            float sums[QSDK_CONV_BINARY_COLUMNS * QSDK_CONV_BINARY_ROWS];
            const size_t here = span->count - p < most ? span->count - p : most;
            tile.positions = (int)here;
            aim_portable(layer, image, group, row, span, span->place + p, &tile);
            layer->set->tile(&tile, sums);
            turn_portable(sums, here, rows, turned + span->place - spans->place + p);
        }
    }
    const struct span *last = spans + count - 1;
    finish_portable(layer, turned, last->place + last->count - spans->place,
                    group * layer->outputs + block * rows, left < rows ? left : rows,
                    y + spans->place);
}

/* Places from .. to of one row of one image's result, all outputs. y: that image's. */
static void piece_portable(const qsdk_conv_binary *layer, const struct image *image, size_t row,
                           size_t from, size_t to, float *y)
{
    const size_t apart = layer->out_height * layer->out_width, rows = layer->set->block_rows;
    struct span spans[PIECE];
    y += row * layer->out_width;
    if (!image->finite) {
        for (size_t n = 0; n < layer->groups * layer->outputs; n++)
            for (size_t p = from; p < to; p++)
                y[n * apart + p] = NAN;
        return;
    }
    const size_t count = spans_portable(layer, from, to, spans);
    for (size_t g = 0; g < layer->groups; g++)
        for (size_t first = 0; first < layer->outputs; first += rows)
            block_portable(layer, image, g, first / rows, row, spans, count,
                           y + (g * layer->outputs + first) * apart);
}

static void panel_portable(const qsdk_conv_binary *layer, const float *x, size_t images, float *y,
                           char *scratch, int threads)
{
    const size_t values = layer->groups * layer->channels * layer->height * layer->width;
    const size_t results = layer->groups * layer->outputs * layer->out_height * layer->out_width;
    const size_t bytes = sizes_portable(layer).all, pieces = (layer->out_width + PIECE - 1) / PIECE;
    const long count = (long)images, jobs = (long)(images * layer->out_height * pieces);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (long i = 0; i < count; i++)
            code_portable(layer, x + (size_t)i * values, scratch + (size_t)i * bytes);
#pragma omp for schedule(static)
        for (long job = 0; job < jobs; job++) {
            const size_t from = (size_t)job % pieces * PIECE, row = (size_t)job / pieces % layer->out_height;
            const size_t image = (size_t)job / pieces / layer->out_height;
            const size_t to = layer->out_width - from < PIECE ? layer->out_width : from + PIECE;
            piece_portable(layer, (const struct image *)(const void *)(scratch + image * bytes), row,
                           from, to, y + image * results);
        }
    }
}

void qsdk_conv_binary_run(const void *context, const void *x, size_t images, void *y, void *scratch,
                          int threads)
{
    const qsdk_conv_binary *layer = context;
    const size_t values = layer->groups * layer->channels * layer->height * layer->width;
    const size_t results = layer->groups * layer->outputs * layer->out_height * layer->out_width;
    const double window = (double)(layer->kernel[0] * layer->kernel[1] * layer->channels);
    const double products = (double)results * window * layer->planes * layer->bits;
    for (size_t first = 0; first < images; first += PANEL) {
        const size_t here = images - first < PANEL ? images - first : PANEL;
        const double ns = (double)here * (products / 500 + (double)values);
        panel_portable(layer, (const float *)x + first * values, here, (float *)y + first * results,
                       scratch, qsdk_threads_portable(threads, ns));
    }
}
