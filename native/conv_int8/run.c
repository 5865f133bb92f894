/* A call, for every set. One job is one group of one image, or some small ones: codes become planes
 * of quads, then tiles of positions pass over them, all blocks of outputs for one tile after the
 * other, while its quads are in the L1 cache. Threads take jobs; where those are too few, they share
 * each one. */
#include "conv_int8_run.h"
#include "grid.h"

#include <string.h>

typedef struct qsdk_conv_int8 layer_t;
typedef struct qsdk_conv_int8_image image_t;
typedef struct qsdk_conv_int8_tile tile_t;

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
    uint8_t *codes; /* four times layer->codes bytes */
    uint8_t *planes;
};

/* Groups of one image that are worked on at once. */
struct job {
    size_t image, group, groups;
    const image_t *info;
};

static size_t least_portable(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct worker worker_portable(const struct call *call, size_t which)
{
    const layer_t *layer = call->layer;
    uint8_t *at = call->workers + which * layer->worker;
    struct worker worker;
    worker.start = (int32_t *)(void *)at;
    worker.factor = (float *)(void *)(at += layer->start);
    at += layer->factor;
    worker.codes = at;
    worker.planes = at + 4 * layer->codes;
    return worker;
}

/* A zero_point of the input's codes, as the set stores codes. */
static int32_t stored_portable(const layer_t *layer, int32_t zero)
{
    return zero + 128 * (layer->input_signed - layer->set->is_signed);
}

/* Of values in [low, high]. */
static image_t covering_portable(const layer_t *layer, float low, float high)
{
    const int qmin = layer->input_signed ? -128 : 0;
    const struct qsdk_grid grid =
        qsdk_grid_portable(low, high, qmin, qmin + 255, layer->input_signed);
    return (image_t){grid.scale, stored_portable(layer, grid.zero_point)};
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
        found = covering_portable(layer, -high, high);
    } else {
        float low, high;
        layer->set->coding->range(x, n, &low, &high);
        found = covering_portable(layer, low, high);
    }
    return found;
}

/* Codes of `count` values of a job's image from a place on; may write 63 more. */
static void code_portable(const struct call *call, const struct job *job, size_t place,
                          size_t count, uint8_t *codes)
{
    const layer_t *layer = call->layer;
    place += job->image * layer->groups * layer->channels * layer->height * layer->width;
    if (layer->input == QSDK_LINEAR_INT8_CODES) {
        const int flip = layer->input_signed != layer->set->is_signed ? 0x80 : 0;
        for (size_t i = 0; i < count; i++)
            codes[i] = (uint8_t)(call->x[place + i] ^ flip);
        return;
    }
    const int zero = job->info->zero, lowest = layer->set->is_signed ? -128 : 0;
    layer->set->coding->code((const float *)(const void *)call->x + place, count, job->info->scale,
                             lowest - zero, lowest + 255 - zero, zero, codes);
}

/* Some rows of one plane of quads. */
static void chunk_portable(const struct call *call, const struct worker *worker,
                           const struct job *job, size_t plane, size_t chunk, uint8_t *planes)
{
    const layer_t *layer = call->layer;
    const size_t from = chunk * layer->chunk;
    const size_t to = least_portable(from + layer->chunk, layer->height);
    const size_t alive = least_portable(4, layer->channels - 4 * plane);
    const size_t first = job->group * layer->channels + 4 * plane;
    const size_t count = (to - from) * layer->width;
    uint8_t *codes[4];
    for (size_t c = 0; c < alive; c++)
        codes[c] = worker->codes + c * (layer->chunk < layer->height ? layer->codes : count);
    if (layer->chunk == layer->height) /* channels follow each other */
        code_portable(call, job, first * count, alive * count, worker->codes);
    for (size_t c = 0; layer->chunk < layer->height && c < alive; c++)
        code_portable(call, job, ((first + c) * layer->height + from) * layer->width, count, codes[c]);
    planes += plane * layer->plane_bytes;
    if (layer->spans)
        qsdk_conv_int8_bytes_portable(layer, codes[0], from, to, job->info->zero, planes);
    else
        qsdk_conv_int8_quads_portable(layer, codes, alive, from, to, job->info->zero, planes);
}

/* The planes of groups of one channel each: coded at once, for channels follow each other. */
static void planes_portable(const struct call *call, const struct worker *worker,
                            const struct job *job, uint8_t *planes)
{
    const layer_t *layer = call->layer;
    const size_t image = layer->height * layer->width;
    code_portable(call, job, job->group * image, job->groups * image, worker->codes);
    for (size_t g = 0; g < job->groups; g++)
        qsdk_conv_int8_bytes_portable(layer, worker->codes + g * image, 0, layer->height,
                                      job->info->zero, planes + g * layer->plane_bytes);
}

/* Part `part` of `parts` of what makes the planes of a job. */
static void code_job_portable(const struct call *call, const struct worker *own,
                              const struct job *job, uint8_t *planes, size_t part, size_t parts)
{
    const layer_t *layer = call->layer;
    if (layer->together > 1) {
        if (part == 0)
            planes_portable(call, own, job, planes);
        return;
    }
    const size_t chunks = layer->chunk ? (layer->height + layer->chunk - 1) / layer->chunk : 1;
    const size_t all = layer->planes * chunks;
    for (size_t i = all * part / parts; i < all * (part + 1) / parts; i++)
        chunk_portable(call, own, job, i / chunks, i % chunks, planes);
}

/* What accumulators of a job begin with, and their unit. */
static void outputs_portable(const struct call *call, const struct worker *worker,
                             const struct job *job)
{
    const layer_t *layer = call->layer;
    const size_t outputs = layer->blocks * layer->block, first = job->group * outputs;
    const uint32_t zero = (uint32_t)job->info->zero;
    for (size_t n = 0; n < job->groups * outputs; n++) {
        worker->start[n] = (int32_t)(0 - zero * (uint32_t)layer->sums[first + n]);
        worker->factor[n] = job->info->scale * layer->scale[first + n];
    }
}

/* Points a tile at some blocks, b being the first, of group g of a job. */
static void aim_portable(const struct call *call, const struct worker *shared,
                         const struct job *job, size_t g, size_t b, size_t blocks, tile_t *tile)
{
    const layer_t *layer = call->layer;
    const size_t n = b * layer->block, in_job = g * layer->blocks * layer->block + n;
    const size_t in_layer = job->group * layer->blocks * layer->block + in_job;
    const size_t bytes = 4 * layer->steps * (layer->set->is_wide ? 2 : 1);
    const size_t output = (job->image * layer->groups + job->group + g) * layer->outputs + n;
    const size_t y = output * tile->apart + tile->at->place;
    tile->x = shared->planes + g * layer->plane_bytes;
    tile->weights = (const uint8_t *)layer->weights + in_layer * bytes;
    tile->start = shared->start + in_job;
    tile->factor = shared->factor + in_job;
    tile->bias = layer->bias + in_layer;
    tile->addend = layer->addend + in_layer;
    tile->mantissa = layer->mantissa + in_layer;
    tile->right = layer->right + in_layer;
    tile->outputs = least_portable(blocks * layer->block, layer->outputs - n);
    tile->y = call->y + y * (layer->output == QSDK_LINEAR_INT8_REQUANTIZED ? 1 : 4);
}

/* Part `part` of `parts` of the tiles of a job. What fits the L1 cache is inside: blocks of weights,
 * or vectors where all planes fit; groups are outside. */
static void tiles_portable(const struct call *call, const struct worker *shared,
                           const struct job *job, size_t part, size_t parts)
{
    const layer_t *layer = call->layer;
    const int planes_fit = layer->planes * layer->plane_bytes <= 24 << 10;
    const size_t tall = layer->by_output ? 1 : (size_t)layer->set->vectors;
    const size_t wide = layer->by_output ? QSDK_CONV_INT8_WIDE : 1;
    const size_t rows = (layer->vectors + tall - 1) / tall;
    const size_t columns = (layer->blocks + wide - 1) / wide;
    const size_t within = planes_fit ? rows : columns, without = planes_fit ? columns : rows;
    const size_t all = job->groups * rows * columns, end = all * (part + 1) / parts;
    size_t i = all * part / parts;
    size_t inner = i % within, outer = i / within % without, g = i / within / without;
    tile_t tile = {
        .layer = layer,
        .block = layer->block,
        .apart = layer->out_height * layer->out_width,
    };
    for (; i < end; i++) {
        const size_t row = planes_fit ? inner : outer, column = planes_fit ? outer : inner;
        const size_t blocks = least_portable(wide, layer->blocks - column * wide);
        tile.at = layer->at + row * tall;
        tile.vectors = least_portable(tall, layer->vectors - row * tall);
        aim_portable(call, shared, job, g, column * wide, blocks, &tile);
        if (layer->by_output)
            layer->set->places(&tile, blocks);
        else
            layer->set->tile(&tile);
        if (++inner == within) {
            inner = 0;
            outer = outer + 1 < without ? outer + 1 : 0;
            g += outer == 0;
        }
    }
}

static void wait_portable(size_t threads)
{
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp barrier
    }
#else
    (void)threads;
#endif
}

/* Part `part` of `parts` of job `index` of an image, whose planes are those of `shared`. */
static void job_portable(const struct call *call, const struct worker *own,
                         const struct worker *shared, size_t image, size_t index, size_t part,
                         size_t parts)
{
    const layer_t *layer = call->layer;
    const size_t group = index * layer->together;
    const struct job job = {
        .image = image,
        .group = group,
        .groups = least_portable(layer->together, layer->groups - group),
        .info = call->info + image,
    };
    if (part == 0)
        outputs_portable(call, shared, &job);
    code_job_portable(call, own, &job, shared->planes, part, parts);
    wait_portable(parts);
    tiles_portable(call, shared, &job, part, parts);
    wait_portable(parts);
}

static void work_portable(const struct call *call, size_t thread, size_t threads)
{
    const size_t of_image = call->layer->jobs, jobs = call->images * of_image;
    const struct worker own = worker_portable(call, thread), first = worker_portable(call, 0);
    for (size_t i = thread; i < call->images; i += threads)
        call->info[i] = look_portable(call, i);
    wait_portable(threads);
    if (jobs >= threads)
        for (size_t j = jobs * thread / threads; j < jobs * (thread + 1) / threads; j++)
            job_portable(call, &own, &own, j / of_image, j % of_image, 0, 1);
    else
        for (size_t j = 0; j < jobs; j++)
            job_portable(call, &own, &first, j / of_image, j % of_image, thread, threads);
}

/* Nanoseconds of one thread, about. */
static double effort_portable(const layer_t *layer, size_t images)
{
    const double steps = (double)layer->groups * (double)(layer->steps * layer->vectors);
    const double values = (double)(layer->groups * layer->planes) * (double)layer->plane_bytes;
    return (double)images * (4 * layer->set->lanes * steps * (double)(layer->blocks * layer->block) / layer->set->macs +
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
