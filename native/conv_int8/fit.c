/* What follows from the size of the images: where the quads of a group lie, and which of them the
 * steps of the product take. */
#include "conv_int8_run.h"

#include <string.h>

static const struct qsdk_conv_int8_set *const sets[] = {
    &qsdk_conv_int8_portable,
#if defined(__x86_64__) && defined(__GNUC__)
    &qsdk_conv_int8_avx2,
    &qsdk_conv_int8_avx512vnni,
#if __GNUC__ >= 11 || defined(__clang__)
    &qsdk_conv_int8_avxvnni,
#endif
#elif defined(__aarch64__) && defined(__GNUC__)
    &qsdk_conv_int8_neon,
#if !defined(__clang__) || __clang_major__ >= 16
    &qsdk_conv_int8_dotprod,
#endif
#endif
};

const struct qsdk_conv_int8_set *qsdk_conv_int8_find(const char *set)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (!strcmp(sets[i]->name, set))
            return sets[i];
    return NULL;
}

size_t qsdk_conv_int8_block(const struct qsdk_conv_int8_set *set)
{
    return (size_t)set->block;
}

int qsdk_conv_int8_is_wide(const struct qsdk_conv_int8_set *set)
{
    return set->is_wide;
}

static size_t up_portable(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

/* A kernel of one place, without stride and padding: the image may as well be one long row. */
static void flatten_portable(struct qsdk_conv_int8 *layer)
{
    for (int axis = 0; axis < 2; axis++)
        if (layer->kernel[axis] != 1 || layer->stride[axis] != 1 || layer->begin[axis] ||
            layer->end[axis])
            return;
    layer->width *= layer->height;
    layer->height = 1;
}

static void offsets_portable(const struct qsdk_conv_int8 *layer)
{
    const size_t across = spans_portable(layer) ? 4 : 1;
    size_t *offset = layer->offsets;
    for (size_t repeat = 0; repeat < layer->repeats; repeat++)
        for (size_t plane = 0; plane < layer->planes; plane++)
            for (size_t i = 0; i < layer->kernel[0]; i++)
                for (size_t j = 0; j < layer->quads; j++) {
                    const size_t row = i * layer->dilation[0];
                    const size_t column = j * across * layer->dilation[1];
                    *offset++ = plane * layer->plane_bytes +
                                quad_portable(layer, row, column % layer->stride[1]) +
                                4 * (column / layer->stride[1]);
                }
}

void qsdk_conv_int8_fit(struct qsdk_conv_int8 *layer)
{
    flatten_portable(layer);
    const size_t padded[2] = {layer->height + layer->begin[0] + layer->end[0],
                              layer->width + layer->begin[1] + layer->end[1]};
    const size_t reach[2] = {layer->dilation[0] * (layer->kernel[0] - 1) + 1,
                             layer->dilation[1] * (layer->kernel[1] - 1) + 1};
    layer->out_height = (padded[0] - reach[0]) / layer->stride[0] + 1;
    layer->out_width = (padded[1] - reach[1]) / layer->stride[1] + 1;
    layer->rows = up_portable(padded[0], layer->stride[0]) / layer->stride[0];
    layer->pitch = up_portable(padded[1], layer->stride[1]) / layer->stride[1];
    layer->positions = (layer->out_height - 1) * layer->pitch + layer->out_width;
    layer->planes = (layer->channels + 3) / 4;
    layer->quads = spans_portable(layer) ? (layer->kernel[1] + 3) / 4 : layer->kernel[1];
    layer->steps = layer->repeats * layer->planes * layer->kernel[0] * layer->quads;
    const size_t quads = layer->stride[0] * layer->stride[1] * layer->rows * layer->pitch;
    layer->plane_bytes = up_portable(4 * quads, 64);
    if (layer->plane_bytes % 4096 == 0)
        layer->plane_bytes += 64; /* else planes fall into the same few places of the L1 cache */
    offsets_portable(layer);
}

/* Rows of the image that are coded at once, few enough for the L1 cache. */
size_t qsdk_conv_int8_chunk_portable(const struct qsdk_conv_int8 *layer)
{
    const size_t rows = layer->width ? 2048 / layer->width : 1;
    return rows < 1 ? 1 : rows < layer->height ? rows : layer->height;
}

/* The parts of the scratch of a worker, in bytes. */
struct qsdk_conv_int8_parts qsdk_conv_int8_parts_portable(const struct qsdk_conv_int8 *layer)
{
    const size_t outputs = layer->blocks * layer->block;
    const size_t line = layer->pitch * layer->stride[1] + 3 * layer->dilation[1];
    const struct qsdk_conv_int8_parts parts = {
        .start = up_portable(outputs * sizeof(int32_t), 64),
        .factor = up_portable(outputs * sizeof(float), 64),
        .codes = up_portable(qsdk_conv_int8_chunk_portable(layer) * layer->width, 64) + 64,
        .line = up_portable(line, 64) + 64,
        /* The last tile reads past the last position. */
        .planes = layer->planes * layer->plane_bytes + 4 * QSDK_CONV_INT8_POSITIONS + 64,
    };
    return parts;
}

size_t qsdk_conv_int8_scratch(const struct qsdk_conv_int8 *layer, size_t images)
{
    const struct qsdk_conv_int8_parts parts = qsdk_conv_int8_parts_portable(layer);
    const size_t worker = up_portable(
        parts.start + parts.factor + 4 * parts.codes + parts.line + parts.planes, 64);
    return up_portable(images * sizeof(struct qsdk_conv_int8_image), 64) + layer->workers * worker;
}
