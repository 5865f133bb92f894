/* A call, for every set. One job is one group of one image: its codes become planes of quads, then
 * tiles of positions pass over them, all blocks of outputs for one tile after the other, while its
 * quads are in the L1 cache. Threads take jobs; where those are too few, they share each one. */
#include "conv_int8_run.h"

#include <float.h>
#include <string.h>

typedef struct qsdk_conv_int8 layer_t;
typedef struct qsdk_conv_int8_image image_t;

struct call {
    const layer_t *layer;
    const uint8_t *x;
    size_t images;
    uint8_t *y;
    image_t *info; /* [images] */
    uint8_t *workers;
};

struct worker {
    int32_t *start; /* [blocks * block] */
    float *factor;  /* [blocks * block] */
    uint8_t *codes[4], *line, *planes;
};

static size_t least_portable(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t width_portable(int is_float)
{
    return is_float ? sizeof(float) : 1;
}

static struct worker worker_portable(const struct call *call, size_t which)
{
    const struct qsdk_conv_int8_parts parts = qsdk_conv_int8_parts_portable(call->layer);
    const size_t all = parts.start + parts.factor + 4 * parts.codes + parts.line + parts.planes;
    uint8_t *at = call->workers + which * ((all + 63) / 64 * 64);
    struct worker worker;
    worker.start = (int32_t *)(void *)at;
    worker.factor = (float *)(void *)(at += parts.start);
    at += parts.factor;
    for (int c = 0; c < 4; c++, at += parts.codes)
        worker.codes[c] = at;
    worker.line = at;
    worker.planes = at + parts.line;
    return worker;
}

static int flip_portable(const layer_t *layer)
{
    return layer->input_signed != layer->set->is_signed ? 0x80 : 0;
}

/* A zero_point of the input's codes, as the set stores codes. */
static int32_t stored_portable(const layer_t *layer, int32_t zero)
{
    return zero + 128 * (layer->input_signed - layer->set->is_signed);
}

/* Scale and zero_point of values in [low, high], as qsdk.affine.scale_and_zero_point has them. */
static image_t covering_portable(const layer_t *layer, double low, double high)
{
    const double largest = (double)FLT_MAX * (1 - 0x1p-20);
    const int is_signed = layer->input_signed;
    double step = is_signed ? high / 127 : (high - low) / 255;
    step = step < FLT_MIN ? FLT_MIN : step > FLT_MAX ? FLT_MAX : step;
    const float scale = high > low ? (float)step : 1;
    int zero = 0, reach = 128;
    if (!is_signed) {
        const double below = (double)((float)low / scale); /* -255, or a little less, to 0 */
        const double shifted = below + 0x1.8p52;           /* rounds, halves to even */
        const double steps = 0x1.8p52 - shifted;
        zero = steps > 255 ? 255 : (int)steps;
        reach = zero > 255 - zero ? zero : 255 - zero;
    }
    const float most = (float)(largest / reach);
    return (image_t){scale < most ? scale : most, stored_portable(layer, zero)};
}

static image_t look_portable(const struct call *call, size_t image)
{
    const layer_t *layer = call->layer;
    if (layer->input != QSDK_LINEAR_INT8_ROWS)
        return (image_t){layer->input_scale, stored_portable(layer, layer->input_zero)};
    const size_t n = layer->groups * layer->channels * layer->height * layer->width;
    const float *x = (const float *)(const void *)call->x + image * n;
    const uint32_t size = layer->set->coding->size(x, n), infinite = 0x7f800000u, nan = 0x7fc00000u;
    image_t found = {0, 0};
    if (size >= infinite) {
        memcpy(&found.scale, &nan, sizeof nan); /* and so is all that follows from it */
    } else if (layer->input_signed) {
        float high;
        memcpy(&high, &size, sizeof high);
        found = covering_portable(layer, -(double)high, (double)high);
    } else {
        float low, high;
        layer->set->coding->range(x, n, &low, &high);
        found = covering_portable(layer, (double)low, (double)high);
    }
    return found;
}

/* Codes of `count` values of a channel from a place on; may write 63 more. */
static void code_portable(const struct call *call, const image_t *image, size_t place, size_t count,
                          uint8_t *codes)
{
    const layer_t *layer = call->layer;
    const int flip = flip_portable(layer);
    if (layer->input == QSDK_LINEAR_INT8_CODES) {
        for (size_t i = 0; i < count; i++)
            codes[i] = (uint8_t)(call->x[place + i] ^ flip);
        return;
    }
    const int lowest = layer->set->is_signed ? -128 : 0;
    const int zero = image->zero; /* in stored codes: nothing is left to flip */
    layer->set->coding->code((const float *)(const void *)call->x + place, count, image->scale,
                             lowest - zero, lowest + 255 - zero, zero, codes);
}

static void fill_portable(uint8_t *quads, size_t n, int32_t zero)
{
    memset(quads, zero & 0xff, 4 * n);
}

/* Whether a step of the product starts in this phase of the stride. */
static int is_used_portable(size_t count, size_t apart, size_t stride, size_t phase)
{
    for (size_t k = 0; k < count; k++)
        if (k * apart % stride == phase)
            return 1;
    return 0;
}

/* The quads of a row of the padded image in one phase of its columns, from four rows of codes. */
static void columns_portable(const layer_t *layer, const uint8_t *const codes[4], size_t phase,
                             int32_t zero, uint8_t *to)
{
    const size_t step = layer->stride[1], begin = layer->begin[1], end = begin + layer->width;
    const size_t first = phase >= begin ? 0 : (begin - phase + step - 1) / step;
    const size_t last = phase >= end ? 0 : (end - phase + step - 1) / step;
    if (first >= last) {
        fill_portable(to, layer->pitch, zero);
        return;
    }
    const uint8_t *rows[4];
    for (int c = 0; c < 4; c++)
        rows[c] = codes[c] + (phase + first * step - begin);
    fill_portable(to, first, zero);
    layer->set->quads(rows, step, last - first, to + 4 * first);
    fill_portable(to + 4 * last, layer->pitch - last, zero);
}

/* One row of the padded image, in all its phases; codes is NULL where it is padding. */
static void row_portable(const layer_t *layer, const uint8_t *const codes[4], size_t row,
                         int32_t zero, uint8_t *line, uint8_t *plane)
{
    const size_t step = layer->stride[1], width = step * layer->pitch + 3 * layer->dilation[1];
    const size_t apart = spans_portable(layer) ? 4 * layer->dilation[1] : layer->dilation[1];
    if (!is_used_portable(layer->kernel[0], layer->dilation[0], layer->stride[0],
                          row % layer->stride[0]))
        return;
    if (codes && spans_portable(layer)) {
        memset(line, zero & 0xff, layer->begin[1]);
        memcpy(line + layer->begin[1], codes[0], layer->width);
        memset(line + layer->begin[1] + layer->width, zero & 0xff,
               width - layer->begin[1] - layer->width);
    }
    for (size_t phase = 0; phase < step; phase++) {
        if (!is_used_portable(layer->quads, apart, step, phase))
            continue;
        uint8_t *to = plane + quad_portable(layer, row, phase);
        if (!codes) {
            fill_portable(to, layer->pitch, zero);
        } else if (spans_portable(layer)) {
            const uint8_t *rows[4];
            for (size_t i = 0; i < 4; i++)
                rows[i] = line + phase + i * layer->dilation[1];
            layer->set->quads(rows, step, layer->pitch, to);
        } else {
            columns_portable(layer, codes, phase, zero, to);
        }
    }
}

/* The quads of some rows of the image in one plane; the first and the last rows bring padding. */
static void chunk_portable(const struct call *call, const struct worker *worker, size_t job,
                           size_t plane, size_t chunk, uint8_t *planes)
{
    const layer_t *layer = call->layer;
    const image_t *image = call->info + job / layer->groups;
    const size_t most = qsdk_conv_int8_chunk_portable(layer), from = chunk * most;
    const size_t to = least_portable(from + most, layer->height);
    const size_t alive = least_portable(4, layer->channels - 4 * plane);
    for (size_t c = 0; c < alive; c++) {
        const size_t channel = job * layer->channels + 4 * plane + c;
        code_portable(call, image, (channel * layer->height + from) * layer->width,
                      (to - from) * layer->width, worker->codes[c]);
    }
    uint8_t *quads = planes + plane * layer->plane_bytes;
    for (size_t row = 0; from == 0 && row < layer->begin[0]; row++)
        row_portable(layer, NULL, row, image->zero, worker->line, quads);
    for (size_t row = from; row < to; row++) {
        const uint8_t *codes[4]; /* channels that are not there have weights of 0 */
        for (size_t c = 0; c < 4; c++)
            codes[c] = worker->codes[c < alive ? c : 0] + (row - from) * layer->width;
        row_portable(layer, codes, layer->begin[0] + row, image->zero, worker->line, quads);
    }
    for (size_t row = 0; to == layer->height && row < layer->end[0]; row++)
        row_portable(layer, NULL, layer->begin[0] + to + row, image->zero, worker->line, quads);
}

static size_t chunks_portable(const layer_t *layer)
{
    const size_t most = qsdk_conv_int8_chunk_portable(layer);
    return most ? (layer->height + most - 1) / most : 1;
}

/* What accumulators of a job begin with, and their unit. */
static void outputs_portable(const struct call *call, const struct worker *worker, size_t job)
{
    const layer_t *layer = call->layer;
    const image_t *image = call->info + job / layer->groups;
    const size_t outputs = layer->blocks * layer->block, first = job % layer->groups * outputs;
    for (size_t n = 0; n < outputs; n++) {
        worker->start[n] =
            (int32_t)(0 - (uint32_t)image->zero * (uint32_t)layer->sums[first + n]);
        worker->factor[n] = image->scale * layer->scale[first + n];
    }
}

static size_t tiles_portable(const layer_t *layer)
{
    const size_t most = (size_t)layer->set->positions;
    return (layer->positions + most - 1) / most * layer->blocks;
}

/* Tile and block number `index` of a job. */
static void tile_portable(const struct call *call, const struct worker *shared, size_t job,
                          size_t index)
{
    const layer_t *layer = call->layer;
    const size_t most = (size_t)layer->set->positions, group = job % layer->groups;
    const size_t block = index % layer->blocks, p = index / layer->blocks * most;
    const size_t n = block * layer->block, at = group * layer->blocks * layer->block + n;
    const size_t places = layer->out_height * layer->out_width, column = p % layer->pitch;
    const size_t place = p / layer->pitch * layer->out_width +
                         least_portable(column, layer->out_width);
    const size_t bytes = 4 * layer->steps * (layer->set->is_wide ? 2 : 1);
    const size_t y = (job * layer->outputs + n) * places + place;
    const struct qsdk_conv_int8_tile tile = {
        .x = shared->planes + 4 * p,
        .offsets = layer->offsets,
        .steps = layer->steps,
        .weights = (const uint8_t *)layer->weights + at * bytes,
        .start = shared->start + n,
        .block = layer->block,
        .outputs = least_portable(layer->block, layer->outputs - n),
        .positions = least_portable(most, layer->positions - p),
        .column = column,
        .width = layer->out_width,
        .pitch = layer->pitch,
        .y = call->y + y * width_portable(layer->output != QSDK_LINEAR_INT8_REQUANTIZED),
        .apart = places,
        .layer = layer,
        .factor = shared->factor + n,
        .bias = layer->bias + at,
        .addend = layer->addend + at,
        .mantissa = layer->mantissa + at,
        .right = layer->right + at,
    };
    layer->set->tile(&tile);
}

static void wait_portable(size_t threads)
{
    if (threads > 1) {
#pragma omp barrier
    }
}

/* Part `part` of `parts` of a job, whose planes are those of `shared`. */
static void job_portable(const struct call *call, const struct worker *own,
                         const struct worker *shared, size_t job, size_t part, size_t parts)
{
    const layer_t *layer = call->layer;
    const size_t chunks = chunks_portable(layer), all = layer->planes * chunks;
    const size_t tiles = tiles_portable(layer);
    if (part == 0)
        outputs_portable(call, shared, job);
    for (size_t i = all * part / parts; i < all * (part + 1) / parts; i++)
        chunk_portable(call, own, job, i / chunks, i % chunks, shared->planes);
    wait_portable(parts);
    for (size_t i = tiles * part / parts; i < tiles * (part + 1) / parts; i++)
        tile_portable(call, shared, job, i);
    wait_portable(parts);
}

static void work_portable(const struct call *call, size_t thread, size_t threads)
{
    const size_t jobs = call->images * call->layer->groups;
    const struct worker own = worker_portable(call, thread), first = worker_portable(call, 0);
    for (size_t i = thread; i < call->images; i += threads)
        call->info[i] = look_portable(call, i);
    wait_portable(threads);
    if (jobs >= threads)
        for (size_t j = jobs * thread / threads; j < jobs * (thread + 1) / threads; j++)
            job_portable(call, &own, &own, j, 0, 1);
    else
        for (size_t j = 0; j < jobs; j++)
            job_portable(call, &own, &first, j, thread, threads);
}

/* Nanoseconds of one thread, about. */
static double effort_portable(const layer_t *layer, size_t images)
{
    const double steps = (double)layer->groups * (double)(layer->steps * layer->positions);
    const double values = (double)(layer->groups * layer->planes) * (double)layer->plane_bytes;
    return (double)images * (4 * steps * (double)(layer->blocks * layer->block) / layer->set->macs +
                             values / 8);
}

void qsdk_conv_int8_run(const void *layer_, const void *x, size_t images, void *y, void *scratch,
                        int threads)
{
    const layer_t *layer = layer_;
    const struct call call = {
        .layer = layer,
        .x = x,
        .images = images,
        .y = y,
        .info = scratch,
        .workers = (uint8_t *)scratch + (images * sizeof(image_t) + 63) / 64 * 64,
    };
    const int most = threads > 0 && (size_t)threads < layer->workers ? threads : (int)layer->workers;
    const int wanted = qsdk_threads_portable(most, effort_portable(layer, images));
    if (wanted == 1) {
        work_portable(&call, 0, 1);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel num_threads(wanted)
    work_portable(&call, (size_t)omp_get_thread_num(), (size_t)omp_get_num_threads());
#endif
}
