/* What follows from the size of the images: where the quads of a group lie, and which of them the
 * steps of the product take. */
#include "conv_int8_run.h"

#include <string.h>

static const struct qsdk_conv_int8_set *const sets[] = {
    &qsdk_conv_int8_portable,
#if defined(__x86_64__) && defined(__GNUC__)
    &qsdk_conv_int8_avx2,
    &qsdk_conv_int8_avx2_pairs,
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

size_t qsdk_conv_int8_pairs(const struct qsdk_conv_int8 *layer)
{
    /* With more outputs, loading quads pays: all outputs of a block take them. */
    if (!layer->set->rows || layer->channels > 1 || layer->outputs > 3 || layer->stride[1] > 2)
        return 0;
    return layer->dilation[1] == 1 ? (layer->kernel[1] + 1) / 2 : layer->kernel[1];
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

/* Where quads of channels lie: four bytes a position, a phase after the other. */
static void channels_portable(struct qsdk_conv_int8 *layer, const size_t padded[2])
{
    layer->spans = 0;
    layer->unit = 4;
    layer->rows = up_portable(padded[0], layer->stride[0]) / layer->stride[0];
    layer->pitch = up_portable(padded[1], layer->stride[1]) / layer->stride[1];
    layer->planes = (layer->channels + 3) / 4;
    layer->quads = layer->kernel[1];
    layer->plane_bytes = up_portable(
        4 * layer->stride[0] * layer->stride[1] * layer->rows * layer->pitch, 64);
    if (layer->plane_bytes % 4096 == 0)
        layer->plane_bytes += 64; /* else planes fall into the same few places of the L1 cache */
}

/* Where the bytes of one channel lie. With a pitch of stride[0] rows, the position below another is
 * stride[0] rows of bytes further on. */
static void places_portable(struct qsdk_conv_int8 *layer, const size_t padded[2])
{
    const size_t width = up_portable(padded[1], layer->stride[1]);
    layer->spans = layer->dilation[1] == 1 ? 4 : 1;
    layer->unit = layer->stride[1];
    layer->rows = padded[0];
    layer->pitch = width / layer->stride[1] * layer->stride[0];
    layer->planes = 1;
    layer->quads = (layer->kernel[1] + layer->spans - 1) / layer->spans;
    layer->plane_bytes = up_portable(padded[0] * width, 64);
}

/* Where the codes of one channel lie that go by row. The padding at the end of a row is that at the
 * start of the next, too. Short rows get the pitch that makes two of them one vector. */
static void pairs_portable(struct qsdk_conv_int8 *layer)
{
    const size_t begin = layer->begin[1], end = layer->end[1], lanes = (size_t)layer->set->lanes;
    const int is_dense = layer->stride[0] == 1 && layer->stride[1] == 1;
    layer->spans = layer->unit = layer->quads = 0;
    layer->across = layer->dilation[1] == 1 ? 2 : layer->dilation[1];
    layer->rows = layer->height + layer->begin[0] + layer->end[0];
    layer->pitch = layer->width + (begin > end ? begin : end);
    if (is_dense && layer->pitch < lanes)
        layer->pitch = lanes;
    layer->planes = 1;
    layer->plane_bytes = up_portable(sizeof(int16_t) * (begin + layer->rows * layer->pitch), 64);
}

/* How much is coded before it is multiplied: codes stay in the L1 cache. Small channels with groups
 * of their own go together. */
static void chunk_portable(struct qsdk_conv_int8 *layer)
{
    const size_t most = 2048, image = layer->height * layer->width;
    const size_t rows = layer->width ? most / layer->width : 1;
    layer->chunk = rows < 1 ? 1 : rows < layer->height ? rows : layer->height;
    layer->together = (layer->spans || layer->pairs) && image && image < most ? most / image : 1;
    layer->together = layer->together < layer->groups ? layer->together : layer->groups;
    layer->jobs = (layer->groups + layer->together - 1) / layer->together;
}

static void scratch_portable(struct qsdk_conv_int8 *layer)
{
    const size_t outputs = layer->together * layer->blocks * layer->block;
    const size_t lanes = (size_t)layer->set->lanes;
    const size_t past = 128 + (layer->pairs ? 4 * lanes * layer->stride[1]
                                            : lanes * layer->unit); /* of the last position */
    layer->start = up_portable(outputs * sizeof(int32_t), 64);
    layer->factor = up_portable(outputs * sizeof(float), 64);
    layer->codes = up_portable(layer->together * layer->chunk * layer->width, 64) + 64;
    layer->worker = up_portable(layer->start + layer->factor + 4 * layer->codes +
                                    layer->together * layer->planes * layer->plane_bytes + past, 64);
}

int qsdk_conv_int8_fit(struct qsdk_conv_int8 *layer)
{
    flatten_portable(layer);
    const size_t padded[2] = {layer->height + layer->begin[0] + layer->end[0],
                              layer->width + layer->begin[1] + layer->end[1]};
    const size_t reach[2] = {layer->dilation[0] * (layer->kernel[0] - 1) + 1,
                             layer->dilation[1] * (layer->kernel[1] - 1) + 1};
    const size_t lanes = (size_t)layer->set->lanes;
    layer->out_height = (padded[0] - reach[0]) / layer->stride[0] + 1;
    layer->out_width = (padded[1] - reach[1]) / layer->stride[1] + 1;
    layer->pairs = qsdk_conv_int8_pairs(layer);
    if (layer->pairs)
        pairs_portable(layer);
    else if (layer->channels == 1 && layer->kernel[1] > 1)
        places_portable(layer, padded);
    else
        channels_portable(layer, padded);
    layer->steps = layer->pairs ? (layer->kernel[0] * layer->pairs + 1) / 2
                                : layer->repeats * layer->planes * layer->kernel[0] * layer->quads;
    layer->vectors = layer->out_height * (up_portable(layer->out_width, lanes) / lanes);
    layer->by_output =
        layer->set->places && !layer->spans && !layer->pairs && layer->block == 8;
    if (layer->by_output) /* as many as it may need, too */
        layer->vectors += layer->out_height * layer->out_width / QSDK_CONV_INT8_PLACES + 1;
    chunk_portable(layer);
    scratch_portable(layer);
    return layer->plane_bytes >> 32 != 0;
}

static void offsets_portable(const struct qsdk_conv_int8 *layer)
{
    const size_t width = layer->pitch / layer->stride[0] * layer->stride[1]; /* of bytes */
    size_t *offset = layer->offsets;
    for (size_t repeat = 0; repeat < layer->repeats; repeat++)
        for (size_t plane = 0; plane < layer->planes; plane++)
            for (size_t i = 0; i < layer->kernel[0]; i++)
                for (size_t j = 0; j < layer->quads; j++) {
                    const size_t row = i * layer->dilation[0], column = j * layer->dilation[1];
                    *offset++ = layer->spans ? row * width + column * layer->spans
                                             : plane * layer->plane_bytes +
                                                   quad_portable(layer, row, column);
                }
}

/* A vector starts at the first result that the one before did not reach. */
static void vectors_portable(struct qsdk_conv_int8 *layer)
{
    const size_t lanes = (size_t)layer->set->lanes, width = layer->out_width;
    const size_t all = layer->out_height * width;
    layer->vectors = 0;
    for (size_t place = 0; place < all;) {
        const size_t first = place / width * layer->pitch + place % width;
        struct qsdk_conv_int8_vector *vector = layer->at + layer->vectors++;
        *vector = (struct qsdk_conv_int8_vector){(uint32_t)first, (uint32_t)place, 0};
        for (; place < all; place++) {
            const size_t lane = place / width * layer->pitch + place % width - first;
            if (lane >= lanes)
                break;
            vector->within |= (uint32_t)1 << lane;
        }
    }
}

/* Lanes that are outputs, where enough of those that are positions would be dropped. */
static void by_output_portable(struct qsdk_conv_int8 *layer)
{
    const size_t lanes = (size_t)layer->set->lanes, width = layer->out_width;
    const size_t all = layer->out_height * width;
    const size_t by_position = layer->blocks * layer->block * layer->vectors * lanes;
    const size_t by_output = layer->blocks * layer->block * up_portable(all, QSDK_CONV_INT8_PLACES);
    layer->by_output = layer->by_output && by_output * 10 < by_position * 9;
    if (!layer->by_output)
        return;
    layer->vectors = 0;
    for (size_t place = 0; place < all; place += QSDK_CONV_INT8_PLACES) {
        const size_t first = place / width * layer->pitch + place % width, left = all - place;
        layer->at[layer->vectors++] = (struct qsdk_conv_int8_vector){
            (uint32_t)first, (uint32_t)place, left < 8 ? (1u << left) - 1 : 0xff};
    }
}

void qsdk_conv_int8_place(struct qsdk_conv_int8 *layer)
{
    if (layer->pairs)
        return;
    offsets_portable(layer);
    vectors_portable(layer);
    by_output_portable(layer);
}

size_t qsdk_conv_int8_scratch(const struct qsdk_conv_int8 *layer, size_t images)
{
    return up_portable(images * sizeof(struct qsdk_conv_int8_image), 64) +
           layer->workers * layer->worker;
}
