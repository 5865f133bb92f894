/* A call, for every set: rows of input become codes, a chunk of rows that fits the L2 cache at a
 * time; then panels of weights, up to 4 blocks of 16 outputs, pass over the chunk. A panel stays in
 * the cache while the blocks of rows go by: arithmetic limits many rows, reading weights few. */
#include "grid.h"
#include "linear_int8_set.h"

enum { CHUNK_BYTES = 1 << 19, CHUNK_ROWS = 96 };

typedef struct qsdk_linear_int8 layer_t;
typedef struct qsdk_linear_int8_row row_t;

struct call {
    const layer_t *layer;
    const uint8_t *x;
    size_t rows;
    uint8_t *y;
    row_t *info;    /* [chunk] */
    uint8_t *codes; /* [chunk][stride]; NULL where x has codes that can stay where they are */
    size_t stride, chunk;
};

static size_t up_portable(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

/* Rows a multiple of 4 KB apart would fall into the same few places of the L1 cache. */
static size_t stride_portable(const layer_t *layer)
{
    const size_t padded = up_portable(layer->inputs, QSDK_LINEAR_INT8_DEPTH) + QSDK_LINEAR_INT8_DEPTH;
    const size_t bytes = layer->set->widen ? 2 * padded : padded;
    return bytes % 512 ? bytes : bytes + QSDK_LINEAR_INT8_DEPTH;
}

static size_t chunk_portable(size_t stride, size_t rows)
{
    const size_t most = up_portable(CHUNK_BYTES / stride + 1, CHUNK_ROWS);
    return rows < most ? rows : most;
}

size_t qsdk_linear_int8_scratch(const layer_t *layer, size_t rows)
{
    const size_t stride = stride_portable(layer), chunk = chunk_portable(stride, rows);
    return up_portable(chunk * sizeof(row_t), 64) + chunk * stride;
}

/* What is added to a code to store it in the set's type. */
static int move_portable(const layer_t *layer)
{
    return 128 * (layer->input_signed - layer->set->is_signed);
}

/* Codes of a row of floats that is looked at first: symmetric int8, or affine uint8. */
static void make_row_portable(const layer_t *layer, const float *x, row_t *row, uint8_t *codes)
{
    const struct qsdk_linear_int8_set *set = layer->set;
    const int is_signed = layer->input_signed, move = move_portable(layer);
    const uint32_t size = set->size(x, layer->inputs);
    const int is_finite = size < 0x7f800000u;
    const int qmin = is_signed ? -128 : 0;
    float low = 0, high = 0;
    if (is_finite && is_signed) {
        memcpy(&high, &size, sizeof high);
        low = -high;
    } else if (is_finite) {
        set->range(x, layer->inputs, &low, &high);
    }
    const struct qsdk_grid grid = qsdk_grid_portable(low, high, qmin, qmin + 255, is_signed);
    const int zero = grid.zero_point;
    row->scale = grid.scale;
    row->zero = is_signed ? 0 : zero + move; /* of int8 it is part of start */
    if (is_finite) {
        set->code(x, layer->inputs, row->scale, qmin - zero, qmin + 255 - zero, zero + move,
                  codes);
    } else {
        const uint32_t nan = 0x7fc00000u;
        memcpy(&row->scale, &nan, sizeof nan);
        memset(codes, zero + move, layer->inputs);
    }
}

static void copy_portable(const uint8_t *restrict x, size_t n, int move, uint8_t *restrict codes)
{
    for (size_t k = 0; k < n; k++)
        codes[k] = (uint8_t)(x[k] + move);
}

/* Codes of a row of floats with a scale and zero_point known beforehand, or of codes. */
static void fixed_row_portable(const layer_t *layer, const void *x, uint8_t *codes)
{
    const int zero = layer->input_zero, qmin = layer->input_signed ? -128 : 0;
    if (layer->input == QSDK_LINEAR_INT8_FIXED)
        layer->set->code(x, layer->inputs, layer->input_scale, qmin - zero, qmin + 255 - zero,
                         zero + move_portable(layer), codes);
    else
        copy_portable(x, layer->inputs, move_portable(layer), codes);
}

/* sum (code - zero_point): only weights with zero points ask for it. */
static int32_t steps_portable(const layer_t *layer, const row_t *row, const uint8_t *codes)
{
    const int is_made = layer->input == QSDK_LINEAR_INT8_ROWS && !layer->input_signed;
    const int fixed = layer->input_zero + move_portable(layer);
    const uint8_t flip = layer->set->is_signed ? 0x80 : 0; /* int8 + 128 */
    uint32_t sum = 0;
    for (size_t k = 0; k < layer->inputs; k++)
        sum += (uint8_t)(codes[k] ^ flip);
    const int64_t zero = (is_made ? row->zero : fixed) + flip;
    return (int32_t)((int64_t)sum - zero * (int64_t)layer->inputs);
}

/* Codes that the product can take as they are given: of the set's sign, in whole steps, and in rows
 * that do not crowd in the cache (see stride_portable). */
static int is_direct_portable(const layer_t *layer)
{
    return layer->input == QSDK_LINEAR_INT8_CODES &&
           layer->input_signed == layer->set->is_signed &&
           layer->inputs % (size_t)layer->set->step == 0 && layer->inputs % 512 != 0 &&
           !layer->set->widen;
}

static const uint8_t *codes_portable(const struct call *call, size_t first, size_t m)
{
    return call->codes ? call->codes + m * call->stride : call->x + (first + m) * call->stride;
}

/* A product may read further than the codes: its weights there are 0. */
static void code_row_portable(const struct call *call, const uint8_t *x, row_t *row, uint8_t *codes)
{
    const layer_t *layer = call->layer;
    if (layer->input == QSDK_LINEAR_INT8_ROWS)
        make_row_portable(layer, (const float *)(const void *)x, row, codes);
    else
        fixed_row_portable(layer, x, codes);
}

static void code_rows_portable(const struct call *call, size_t first, size_t begin, size_t end)
{
    const layer_t *layer = call->layer;
    const size_t size = layer->input == QSDK_LINEAR_INT8_CODES ? 1 : sizeof(float);
    for (size_t m = begin; m < end; m++) {
        const uint8_t *x = call->x + (first + m) * layer->inputs * size;
        call->info[m] = (row_t){.scale = layer->input_scale}; /* a fixed zero is part of start */
        if (call->codes)
            code_row_portable(call, x, call->info + m, call->codes + m * call->stride);
        if (layer->has_zeros)
            call->info[m].steps = steps_portable(layer, call->info + m, codes_portable(call, first, m));
        if (layer->set->widen)
            layer->set->widen(call->codes + m * call->stride, layer->inputs);
    }
}

static void finish_portable(const layer_t *layer, const struct qsdk_linear_int8_tile *tile)
{
    if (layer->has_zeros || (layer->input == QSDK_LINEAR_INT8_ROWS && !layer->input_signed))
        layer->set->correct(layer, tile);
    if (layer->output == QSDK_LINEAR_INT8_FLOAT)
        layer->set->to_float(layer, tile);
    else if (layer->output == QSDK_LINEAR_INT8_REQUANTIZED)
        layer->set->to_codes(layer, tile);
    else
        for (size_t r = 0; r < tile->rows; r++)
            memcpy(tile->y + r * layer->outputs * 4, tile->acc + r * tile->pitch, tile->count * 4);
}

/* Where results go is on its way into the cache while the product is made: 3 % at K = 1024. */
static void fetch_portable(const struct qsdk_linear_int8_tile *tile, size_t pitch, size_t bytes)
{
#ifdef __GNUC__
    for (size_t r = 0; r < tile->rows; r++)
        for (size_t i = 0; i < bytes; i += 64)
            __builtin_prefetch(tile->y + r * pitch + i, 1);
#else
    (void)tile, (void)pitch, (void)bytes;
#endif
}

/* Rows [m, m + rows) of the chunk times blocks [b, b + blocks) of the weights. */
static void product_portable(const struct call *call, size_t first, size_t m, size_t rows, size_t b,
                             size_t blocks)
{
    int32_t acc[QSDK_LINEAR_INT8_MOST_ROWS * QSDK_LINEAR_INT8_MOST_BLOCKS * 16];
    const layer_t *layer = call->layer;
    const size_t apart = up_portable(layer->inputs, QSDK_LINEAR_INT8_DEPTH) * 16;
    const size_t width = layer->output == QSDK_LINEAR_INT8_REQUANTIZED ? 1 : 4;
    const size_t n = 16 * b, left = layer->outputs - n, all = 16 * blocks;
    const struct qsdk_linear_int8_block block = {
        .codes = codes_portable(call, first, m),
        .stride = call->stride,
        .weights = layer->weights + b * apart,
        .apart = apart,
        .quads = up_portable(layer->inputs, (size_t)layer->set->step) / 4,
        .start = layer->start + n,
        .tile = acc,
    };
    const struct qsdk_linear_int8_tile tile = {
        .first = n,
        .count = left < all ? left : all,
        .rows = rows,
        .pitch = all,
        .acc = acc,
        .row = call->info + m,
        .y = call->y + ((first + m) * layer->outputs + n) * width,
    };
    fetch_portable(&tile, layer->outputs * width, tile.count * width);
    layer->set->multiply(&block, (int)rows, (int)blocks);
    finish_portable(layer, &tile);
}

/* Part `thread` of `threads` of all products of a chunk: panels outside, blocks of rows inside. */
static void products_portable(const struct call *call, size_t first, size_t rows, size_t thread,
                              size_t threads)
{
    const struct qsdk_linear_int8_set *set = call->layer->set;
    const size_t blocks = up_portable(call->layer->outputs, 16) / 16, wide = (size_t)set->blocks;
    const size_t panels = (blocks + wide - 1) / wide;
    const size_t heights = (rows + (size_t)set->rows - 1) / (size_t)set->rows;
    const size_t tasks = panels * heights;
    for (size_t t = tasks * thread / threads; t < tasks * (thread + 1) / threads; t++) {
        const size_t b = t / heights * wide, i = t % heights;
        const size_t m = i * rows / heights, end = (i + 1) * rows / heights; /* of like height */
        product_portable(call, first, m, end - m, b, blocks - b < wide ? blocks - b : wide);
    }
}

static void wait_portable(int threads)
{
    (void)threads;
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp barrier
    }
#endif
}

static void work_portable(const struct call *call, int thread, int threads)
{
    const size_t t = (size_t)thread, all = (size_t)threads;
    for (size_t first = 0; first < call->rows; first += call->chunk) {
        const size_t left = call->rows - first, rows = left < call->chunk ? left : call->chunk;
        code_rows_portable(call, first, rows * t / all, rows * (t + 1) / all);
        wait_portable(threads);
        products_portable(call, first, rows, t, all);
        wait_portable(threads);
    }
}

void qsdk_linear_int8_run(const void *layer_, const void *x, size_t rows, void *y, void *scratch,
                          int threads)
{
    const layer_t *layer = layer_;
    const size_t stride = stride_portable(layer), chunk = chunk_portable(stride, rows);
    const int is_direct = is_direct_portable(layer);
    const struct call call = {
        .layer = layer,
        .x = x,
        .rows = rows,
        .y = y,
        .info = scratch,
        .codes = is_direct ? NULL : (uint8_t *)scratch + up_portable(chunk * sizeof(row_t), 64),
        .stride = is_direct ? layer->inputs : stride,
        .chunk = chunk,
    };
    const double macs = (double)rows * (double)layer->inputs * (double)layer->outputs;
    const int wanted = qsdk_threads_portable(threads, macs / layer->set->macs);
    if (wanted == 1) {
        work_portable(&call, 0, 1);
        return;
    }
#ifdef _OPENMP
#pragma omp parallel num_threads(wanted)
    work_portable(&call, omp_get_thread_num(), omp_get_num_threads());
#endif
}
