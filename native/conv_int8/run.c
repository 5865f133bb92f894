/* A call, for every set. One job is one group of one image, or some small ones: codes become planes
 * of quads, then tiles of positions pass over them, all blocks of outputs for one tile after the
 * other, while its quads are in the L1 cache. Threads take jobs; where those are too few, they share
 * each one. */
#include "conv_int8_run.h"
#include "grid.h"

#include <string.h>

typedef struct qsdk_conv_int8 layer_t;
typedef struct qsdk_conv_int8_image image_t;
typedef struct qsdk_conv_int8_call call_t;
typedef struct qsdk_conv_int8_worker worker_t;
typedef struct qsdk_conv_int8_job job_t;

static worker_t worker_portable(const call_t *call, size_t which)
{
    const layer_t *layer = call->layer;
    uint8_t *at = call->workers + which * layer->worker;
    worker_t worker;
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

static image_t look_portable(const call_t *call, size_t image)
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
static void code_portable(const call_t *call, const job_t *job, size_t place,
                          size_t count, uint8_t *codes)
{
    const layer_t *layer = call->layer;
    place += job->image * layer->groups * layer->channels * layer->height * layer->width;
    if (layer->input == QSDK_LINEAR_INT8_CODES) {
        const int flip = layer->input_signed != layer->set->is_signed ? 0x80 : 0;
        const uint8_t *x = call->x + place;
        for (size_t i = 0; i < count; i++)
            codes[i] = (uint8_t)(x[i] ^ flip);
        return;
    }
    const int zero = job->info->zero, lowest = layer->set->is_signed ? -128 : 0;
    layer->set->coding->code((const float *)(const void *)call->x + place, count, job->info->scale,
                             lowest - zero, lowest + 255 - zero, zero, codes);
}

/* Rows [from, to) of a group's one channel. */
static void one_channel_portable(const layer_t *layer, const uint8_t *codes, size_t from, size_t to,
                                 int32_t zero, uint8_t *plane)
{
    if (layer->pairs)
        layer->set->spread(layer, codes, from, to, zero, (int16_t *)(void *)plane);
    else
        qsdk_conv_int8_bytes_portable(layer, codes, from, to, zero, plane);
}

/* Some rows of one plane of quads. */
static void chunk_portable(const call_t *call, const worker_t *worker,
                           const job_t *job, size_t plane, size_t chunk, uint8_t *planes)
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
    if (layer->spans || layer->pairs)
        one_channel_portable(layer, codes[0], from, to, job->info->zero, planes);
    else
        qsdk_conv_int8_quads_portable(layer, codes, alive, from, to, job->info->zero, planes);
}

/* The planes of groups of one channel each: coded at once, for channels follow each other. */
static void planes_portable(const call_t *call, const worker_t *worker,
                            const job_t *job, uint8_t *planes)
{
    const layer_t *layer = call->layer;
    const size_t image = layer->height * layer->width;
    code_portable(call, job, job->group * image, job->groups * image, worker->codes);
    for (size_t g = 0; g < job->groups; g++)
        one_channel_portable(layer, worker->codes + g * image, 0, layer->height, job->info->zero,
                             planes + g * layer->plane_bytes);
}

/* Part `part` of `parts` of what makes the planes of a job. */
static void code_job_portable(const call_t *call, const worker_t *own,
                              const job_t *job, uint8_t *planes, size_t part, size_t parts)
{
    const layer_t *layer = call->layer;
    if (layer->together > 1 || layer->pairs) { /* a row that is spread goes into the next */
        if (part > 0)
            return;
        parts = 1;
    }
    if (layer->together > 1) {
        planes_portable(call, own, job, planes);
        return;
    }
    const size_t chunks = layer->chunk ? (layer->height + layer->chunk - 1) / layer->chunk : 1;
    const size_t all = layer->planes * chunks;
    for (size_t i = all * part / parts; i < all * (part + 1) / parts; i++)
        chunk_portable(call, own, job, i / chunks, i % chunks, planes);
}

/* What accumulators of a job begin with, and their unit. */
static void outputs_portable(const call_t *call, const worker_t *worker,
                             const job_t *job)
{
    const layer_t *layer = call->layer;
    const size_t outputs = layer->blocks * layer->block, first = job->group * outputs;
    const uint32_t zero = (uint32_t)job->info->zero;
    for (size_t n = 0; n < job->groups * outputs; n++) {
        worker->start[n] = (int32_t)(0 - zero * (uint32_t)layer->sums[first + n]);
        worker->factor[n] = job->info->scale * layer->scale[first + n];
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
static void job_portable(const call_t *call, const worker_t *own,
                         const worker_t *shared, size_t image, size_t index, size_t part,
                         size_t parts)
{
    const layer_t *layer = call->layer;
    const size_t group = index * layer->together;
    const job_t job = {
        .image = image,
        .group = group,
        .groups = least_portable(layer->together, layer->groups - group),
        .info = call->info + image,
    };
    if (part == 0)
        outputs_portable(call, shared, &job);
    code_job_portable(call, own, &job, shared->planes, part, parts);
    wait_portable(parts);
    (layer->pairs ? qsdk_conv_int8_by_row_portable : qsdk_conv_int8_tiles_portable)(
        call, shared, &job, part, parts);
    wait_portable(parts);
}

static void work_portable(const call_t *call, size_t thread, size_t threads)
{
    const size_t of_image = call->layer->jobs, jobs = call->images * of_image;
    const worker_t own = worker_portable(call, thread), first = worker_portable(call, 0);
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
    const call_t call = {
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
