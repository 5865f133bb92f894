/* A call: rows of input are coded a panel at a time, then every chunk of weights that
 * fits the first cache is used for all rows of the panel. */
#include "linear_binary.h"

#include <math.h>
#include <string.h>

enum { PANEL = 16, FLOAT_PANEL = 4, CHUNK_BYTES = 1 << 14 };

const struct qsdk_linear_binary_set *qsdk_linear_binary_find(const char *set)
{
    static const struct qsdk_linear_binary_set *const sets[] = {
        &qsdk_linear_binary_portable,
#if defined(__x86_64__) && defined(__GNUC__)
        &qsdk_linear_binary_avx2,
        &qsdk_linear_binary_avx512bw,
        &qsdk_linear_binary_avx512vpopcntdq,
#ifdef QSDK_LINEAR_BINARY_AMX
        &qsdk_linear_binary_amx,
#endif
#elif defined(__aarch64__)
        &qsdk_linear_binary_neon,
#endif
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (!strcmp(sets[i]->name, set))
            return sets[i];
    return NULL;
}

static size_t row_bytes_portable(const qsdk_linear_binary *layer)
{
    const size_t words = layer->bits && layer->set->lane_bytes == 1
                             ? (qsdk_binary_words_portable(layer) + 1) * (size_t)layer->bits * 8
                             : 0;
    return sizeof(struct qsdk_binary_row) + qsdk_binary_input_bytes_portable(layer) +
           (words + 63) / 64 * 64;
}

/* Tiles of so many rows of input: where the set has tiles, they lie behind the rows in scratch. */
static size_t tiles_portable(const qsdk_linear_binary *layer, size_t rows)
{
    return layer->bits && layer->set->tiles ? rows / QSDK_BINARY_TILE_ROWS : 0;
}

static size_t tile_bytes_portable(const qsdk_linear_binary *layer)
{
    return qsdk_binary_words_portable(layer) * (size_t)layer->bits * QSDK_BINARY_TILE;
}

static size_t panel_portable(const qsdk_linear_binary *layer)
{
    if (layer->bits && layer->set->tiles)
        return QSDK_BINARY_TILES * QSDK_BINARY_TILE_ROWS;
    return layer->bits ? PANEL : FLOAT_PANEL;
}

size_t qsdk_linear_binary_scratch(const qsdk_linear_binary *layer, size_t rows)
{
    const size_t panel = panel_portable(layer), here = rows < panel ? rows : panel;
    return here * row_bytes_portable(layer) +
           tiles_portable(layer, here) * tile_bytes_portable(layer);
}

/* Bias, clip, and NaN for rows that are not finite, on outputs first .. last of one row. */
static void finish_portable(const qsdk_linear_binary *layer, int finite, size_t first, size_t last,
                            float *y)
{
    const float low = layer->low, high = layer->high;
    if (!finite)
        for (size_t n = first; n < last; n++)
            y[n] = NAN;
    else if (layer->bias)
        for (size_t n = first; n < last; n++)
            y[n] += layer->bias[n];
    if (low > -INFINITY || high < INFINITY)
        for (size_t n = first; n < last; n++) {
            y[n] = y[n] < low ? low : y[n];
            y[n] = y[n] > high ? high : y[n];
        }
}

/* Blocks first .. first + count for every row of the panel. */
static void chunk_portable(const qsdk_linear_binary *layer, size_t first, size_t count,
                           const char *scratch, size_t rows, float *y)
{
    const size_t block = qsdk_binary_block_portable(layer), end = (first + count) * block;
    const size_t last = end < layer->rows ? end : layer->rows;
    const size_t tiles = tiles_portable(layer, rows), bytes = row_bytes_portable(layer);
    if (tiles)
        layer->set->tiles(layer, first, count, (const int8_t *)scratch + rows * bytes,
                          (const struct qsdk_binary_row *)scratch, bytes, tiles, y);
    for (size_t m = 0; m < rows; m++, y += layer->rows) {
        const struct qsdk_binary_row *row = (const struct qsdk_binary_row *)(scratch + m * bytes);
        if (row->finite && layer->bits && m >= tiles * QSDK_BINARY_TILE_ROWS)
            layer->set->rows(layer, first, count, row + 1, row->beta, y);
        else if (row->finite && !layer->bits)
            layer->set->float_rows(layer, first, count, (const float *)(row + 1), y);
        finish_portable(layer, row->finite, first * block, last, y);
    }
}

/* Bytes of a row of input. */
static size_t input_bytes_portable(const qsdk_linear_binary *layer)
{
    return layer->coded ? qsdk_binary_record_bytes_portable(layer) : layer->length * sizeof(float);
}

/* Row m of the panel into scratch, and into its tile if it has one. */
static void input_portable(const qsdk_linear_binary *layer, const char *x, size_t m, char *scratch,
                           size_t rows)
{
    const size_t bytes = row_bytes_portable(layer), tall = QSDK_BINARY_TILE_ROWS;
    struct qsdk_binary_row *row = (struct qsdk_binary_row *)(scratch + m * bytes);
    char *input = (char *)(row + 1);
    uint64_t *words = (uint64_t *)(input + qsdk_binary_input_bytes_portable(layer));
    x += m * input_bytes_portable(layer);
    row->finite =
        layer->coded
            ? qsdk_binary_record_portable(layer, x, row->beta, input, words)
            : qsdk_binary_input_portable(layer, (const float *)x, row->beta, input, words);
    if (row->finite && m / tall < tiles_portable(layer, rows)) {
        char *tile = scratch + rows * bytes + m / tall * tile_bytes_portable(layer);
        layer->set->signs((const uint64_t *)input, layer->bits, layer->length,
                          (int8_t *)tile + m % tall * 64);
    }
}

static void panel_run_portable(const qsdk_linear_binary *layer, const char *x, size_t rows,
                               float *y, char *scratch, int threads)
{
    const size_t blocks = qsdk_binary_blocks_portable(layer);
    const size_t step = CHUNK_BYTES / (qsdk_binary_block_bytes_portable(layer) + 1) + 1;
    const long chunks = (long)((blocks + step - 1) / step), count = (long)rows;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (long m = 0; m < count; m++)
            input_portable(layer, x, (size_t)m, scratch, rows);
#pragma omp for schedule(static)
        for (long c = 0; c < chunks; c++) {
            const size_t first = (size_t)c * step, left = blocks - first;
            chunk_portable(layer, first, left < step ? left : step, scratch, rows, y);
        }
    }
}

void qsdk_linear_binary_run(const void *context, const void *x, size_t rows, void *y, void *scratch,
                            int threads)
{
    const qsdk_linear_binary *layer = context;
    const size_t panel = panel_portable(layer);
    for (size_t first = 0; first < rows; first += panel) {
        const size_t here = rows - first < panel ? rows - first : panel;
        const double products = (double)layer->rows * (double)layer->length * layer->planes;
        const double ns = (double)here * products * (layer->bits ? layer->bits / 800.0 : 0.03);
        panel_run_portable(layer, (const char *)x + first * input_bytes_portable(layer), here,
                           (float *)y + first * layer->rows, scratch,
                           qsdk_threads_portable(threads, ns));
    }
}
