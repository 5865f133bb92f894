/* A call: rows of input are coded a panel at a time, then every chunk of weights that
 * fits the first cache is used for all rows of the panel. */
#include "linear_binary.h"

#include <math.h>
#include <string.h>

enum { PANEL = 16, FLOAT_PANEL = 4, CHUNK_BYTES = 1 << 14 };

/* A row of input in scratch: this, then what the set reads, then words where that is not them. */
struct row {
    float beta[QSDK_BINARY_BITS];
    int finite;
    char pad[64 - sizeof(float) * QSDK_BINARY_BITS - sizeof(int)];
};

const struct qsdk_linear_binary_set *qsdk_linear_binary_find(const char *set)
{
    static const struct qsdk_linear_binary_set *const sets[] = {
        &qsdk_linear_binary_portable,
#if defined(__x86_64__) && defined(__GNUC__)
        &qsdk_linear_binary_avx2,
        &qsdk_linear_binary_avx512bw,
        &qsdk_linear_binary_avx512vpopcntdq,
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
    return sizeof(struct row) + qsdk_binary_input_bytes_portable(layer) + (words + 63) / 64 * 64;
}

static size_t panel_portable(const qsdk_linear_binary *layer)
{
    return layer->bits ? PANEL : FLOAT_PANEL;
}

size_t qsdk_linear_binary_scratch(const qsdk_linear_binary *layer, size_t rows)
{
    const size_t panel = panel_portable(layer);
    return (rows < panel ? rows : panel) * row_bytes_portable(layer);
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
    for (size_t m = 0; m < rows; m++, y += layer->rows) {
        const struct row *row = (const struct row *)(scratch + m * row_bytes_portable(layer));
        if (row->finite && layer->bits)
            layer->set->rows(layer, first, count, row + 1, row->beta, y);
        else if (row->finite)
            layer->set->float_rows(layer, first, count, (const float *)(row + 1), y);
        finish_portable(layer, row->finite, first * block, last, y);
    }
}

/* Bytes of a row of input. */
static size_t input_bytes_portable(const qsdk_linear_binary *layer)
{
    return layer->coded ? qsdk_binary_record_bytes_portable(layer) : layer->length * sizeof(float);
}

static void code_portable(const qsdk_linear_binary *layer, const char *x, struct row *row)
{
    char *input = (char *)(row + 1);
    uint64_t *words = (uint64_t *)(input + qsdk_binary_input_bytes_portable(layer));
    row->finite =
        layer->coded
            ? qsdk_binary_record_portable(layer, x, row->beta, input, words)
            : qsdk_binary_input_portable(layer, (const float *)x, row->beta, input, words);
}

static void panel_run_portable(const qsdk_linear_binary *layer, const char *x, size_t rows,
                               float *y, char *scratch, int threads)
{
    const size_t bytes = row_bytes_portable(layer), blocks = qsdk_binary_blocks_portable(layer);
    const size_t step = CHUNK_BYTES / (qsdk_binary_block_bytes_portable(layer) + 1) + 1;
    const long chunks = (long)((blocks + step - 1) / step), count = (long)rows;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (long m = 0; m < count; m++) {
            code_portable(layer, x + (size_t)m * input_bytes_portable(layer),
                          (struct row *)(scratch + (size_t)m * bytes));
        }
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
