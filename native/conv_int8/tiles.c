/* Results of a job: tiles of positions, or rows, pass over its planes. */
#include "conv_int8_run.h"

typedef struct qsdk_conv_int8 layer_t;
typedef struct qsdk_conv_int8_call call_t;
typedef struct qsdk_conv_int8_worker worker_t;
typedef struct qsdk_conv_int8_job job_t;
typedef struct qsdk_conv_int8_tile tile_t;
typedef struct qsdk_conv_int8_rows rows_t;

/* Points a tile at some blocks, b being the first, of group g of a job. */
static void aim_portable(const call_t *call, const worker_t *shared, const job_t *job, size_t g,
                         size_t b, size_t blocks, tile_t *tile)
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
void qsdk_conv_int8_tiles_portable(const call_t *call, const worker_t *shared, const job_t *job,
                                   size_t part, size_t parts)
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

/* Rows from `row` on of output n of a job's outputs; without how many there are. */
static rows_t rows_portable(const call_t *call, const worker_t *shared, const job_t *job, size_t n,
                            size_t row)
{
    const layer_t *layer = call->layer;
    const size_t of_group = layer->blocks * layer->block, group = n / layer->outputs;
    const size_t in_job = group * of_group + n % layer->outputs;
    const size_t in_layer = job->group * of_group + in_job;
    const size_t first = (job->image * layer->groups + job->group) * layer->outputs;
    const size_t place = ((first + n) * layer->out_height + row) * layer->out_width;
    const uint8_t *plane = shared->planes + group * layer->plane_bytes;
    return (rows_t){
        .layer = layer,
        .x = (const int16_t *)(const void *)plane + row * layer->stride[0] * layer->pitch,
        .weights = (const int16_t *)layer->weights + in_layer * 2 * layer->pairs * layer->kernel[0],
        .below = layer->dilation[0] * layer->pitch,
        .y = call->y + place * (layer->output == QSDK_LINEAR_INT8_REQUANTIZED ? 1 : 4),
        .start = shared->start[in_job],
        .factor = shared->factor[in_job],
        .bias = layer->bias[in_layer],
        .addend = layer->addend[in_layer],
        .mantissa = layer->mantissa[in_layer],
        .right = layer->right[in_layer],
    };
}

/* Results of a job lie one after the other, those of a part too. */
void qsdk_conv_int8_by_row_portable(const call_t *call, const worker_t *shared, const job_t *job,
                                    size_t part, size_t parts)
{
    const layer_t *layer = call->layer;
    const size_t height = layer->out_height, all = job->groups * layer->outputs * height;
    const size_t end = all * (part + 1) / parts;
    for (size_t i = all * part / parts; i < end;) {
        rows_t rows = rows_portable(call, shared, job, i / height, i % height);
        rows.rows = least_portable(height - i % height, end - i);
        rows.room = (end - i) * layer->out_width;
        layer->set->rows(&rows);
        i += rows.rows;
    }
}
