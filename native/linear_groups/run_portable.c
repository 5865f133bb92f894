/* What all sets share: a panel of rows is coded (or just interleaved) into scratch, then every
 * block of 16 columns meets every tile of it. A block stays in the caches for all tiles, and a
 * panel for all blocks; with few rows, reading the weights is what limits. */
#include "grid.h"
#include "kernel.h"
#include "linear_groups.h"

#include <string.h>

enum { PANEL = 128, CHUNK = 512 };

typedef const struct qsdk_linear_groups layer_t;

/* Where the rows of a panel go. */
struct panel {
    size_t rows, padded; /* values of a row, up to a whole unit */
    const float *x;
    char *values; /* bytes, or floats */
    float *scale; /* the next two only for codes */
    int32_t *start;
};

typedef void fill(layer_t *layer, const struct panel *panel, size_t row,
                  struct qsdk_linear_groups_tile *tile);

static size_t aligned_portable(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}

static size_t padded_portable(layer_t *layer)
{
    return qsdk_linear_groups_units_portable(layer->length, layer->width) *
           qsdk_linear_groups_unit_portable(layer->width);
}

size_t qsdk_linear_groups_scratch(const struct qsdk_linear_groups *layer, size_t rows)
{
    const size_t most = rows < PANEL ? rows : PANEL;
    const size_t floats = aligned_portable(most * padded_portable(layer) * sizeof(float));
    const size_t codes = aligned_portable(most * padded_portable(layer)) +
                         2 * aligned_portable(most * layer->groups * sizeof(float));
    return floats > codes ? floats : codes;
}

static float scale_of_portable(uint32_t largest_bits)
{
    float largest;
    memcpy(&largest, &largest_bits, sizeof largest);
    return qsdk_grid_portable(-largest, largest, -128, 127, 1).scale;
}

/* Row m of the tile's interleaved codes, from contiguous ones; n is a multiple of 4. */
static void interleave_portable(const int8_t *codes, size_t n, size_t rows, size_t m, int8_t *to)
{
    for (size_t k = 0; k < n; k += 4)
        memcpy(to + k * rows + 4 * m, codes + k, 4);
}

/* One group of row m of a tile: its codes; returns their sum. */
static int32_t code_group_portable(layer_t *layer, const float *x, size_t n, float scale,
                                   size_t rows, size_t m, int8_t *to)
{
    int8_t chunk[CHUNK];
    int32_t sum = 0;
    for (size_t k = 0; k < n; k += CHUNK) {
        const size_t count = n - k < CHUNK ? n - k : CHUNK, fours = (count + 3) / 4 * 4;
        for (size_t i = count; i < fours; i++)
            chunk[i] = 0;
        sum += layer->set->code(x + k, count, scale, chunk);
        interleave_portable(chunk, fours, rows, m, to + k * rows);
    }
    return sum;
}

static void code_row_portable(layer_t *layer, const float *x, size_t rows, size_t m, int8_t *to,
                              float *scale, int32_t *start)
{
    uint32_t worst = 0;
    for (size_t g = 0, k = 0; g < layer->groups; g++, k += layer->group) {
        const size_t n = layer->length - k < layer->group ? layer->length - k : layer->group;
        const uint32_t largest = layer->set->largest(x + k, n);
        worst = largest > worst ? largest : worst;
        if (largest >= 0x7f800000u)
            break;
        const float s = scale_of_portable(largest);
        const int32_t sum = code_group_portable(layer, x + k, n, s, rows, m, to + k * rows);
        scale[g * rows + m] = s;
        start[g * rows + m] = layer->zeros ? -sum : -sum * layer->zero;
    }
    if (worst < 0x7f800000u)
        return;
    const uint32_t nan_bits = 0x7fc00000u;
    for (size_t g = 0; g < layer->groups; g++) {
        memcpy(scale + g * rows + m, &nan_bits, sizeof nan_bits);
        start[g * rows + m] = 0;
    }
}

static void fill_codes_portable(layer_t *layer, const struct panel *panel, size_t row,
                                struct qsdk_linear_groups_tile *tile)
{
    int8_t *codes = (int8_t *)panel->values + row * panel->padded;
    float *scale = panel->scale + row * layer->groups;
    int32_t *start = panel->start + row * layer->groups;
    *tile = (struct qsdk_linear_groups_tile){tile->rows, codes, scale, start};
    if (!panel->x)
        return;
    for (size_t m = 0; m < tile->rows; m++)
        code_row_portable(layer, panel->x + (row + m) * layer->length, tile->rows, m, codes, scale,
                          start);
}

static void fill_floats_portable(layer_t *layer, const struct panel *panel, size_t row,
                                 struct qsdk_linear_groups_tile *tile)
{
    float *to = (float *)(void *)panel->values + row * panel->padded;
    *tile = (struct qsdk_linear_groups_tile){tile->rows, to, NULL, NULL};
    if (!panel->x)
        return;
    const float *x = panel->x + row * layer->length;
    for (size_t k = 0; k < panel->padded; k++)
        for (size_t m = 0; m < tile->rows; m++)
            to[k * tile->rows + m] = k < layer->length ? x[m * layer->length + k] : 0;
}

/* The tile that begins at this row: the largest power of two that is left. */
static void tile_at_portable(layer_t *layer, const struct panel *panel, size_t row, fill *filled,
                             struct qsdk_linear_groups_tile *tile)
{
    tile->rows = layer->set->rows;
    while (tile->rows > panel->rows - row)
        tile->rows /= 2;
    filled(layer, panel, row, tile);
}

/* Part t of `all`: some rows are coded, and when all of them are, some blocks of columns follow. */
static void work_portable(layer_t *layer, const struct panel *panel, fill *filled,
                          qsdk_linear_groups_product *product, float *y, size_t t, size_t all)
{
    const size_t most = layer->set->rows, steps = (panel->rows + most - 1) / most;
    const size_t blocks = (layer->columns + QSDK_COLUMNS - 1) / QSDK_COLUMNS;
    const size_t last = steps * (t + 1) / all * most;
    struct qsdk_linear_groups_tile tile;
    struct panel known = *panel;
    known.x = NULL; /* filled already */
    for (size_t row = steps * t / all * most; row < panel->rows && row < last; row += tile.rows)
        tile_at_portable(layer, panel, row, filled, &tile);
    if (all > 1) {
#ifdef _OPENMP
#pragma omp barrier
#endif
    }
    for (size_t block = blocks * t / all; block < blocks * (t + 1) / all; block++)
        for (size_t row = 0; row < panel->rows; row += tile.rows) {
            tile_at_portable(layer, &known, row, filled, &tile);
            product(layer, block, &tile, y + row * layer->columns + block * QSDK_COLUMNS);
        }
}

static void run_panel_portable(layer_t *layer, const struct panel *panel, fill *filled,
                               qsdk_linear_groups_product *product, float *y, int threads)
{
    /* a weight read takes about 0.03 ns, a product 0.01 */
    const double weights = (double)layer->columns * (double)layer->length;
    const int used =
        qsdk_threads_portable(threads, weights * (0.03 + 0.01 * (double)panel->rows));
#ifdef _OPENMP
    if (used > 1) {
#pragma omp parallel num_threads(used)
        work_portable(layer, panel, filled, product, y, (size_t)omp_get_thread_num(),
                      (size_t)omp_get_num_threads());
        return;
    }
#endif
    (void)used;
    work_portable(layer, panel, filled, product, y, 0, 1);
}

static void run_portable(layer_t *layer, const float *x, size_t rows, float *y, char *scratch,
                         int threads, fill *filled, qsdk_linear_groups_product *product)
{
    const size_t padded = padded_portable(layer);
    for (size_t row = 0; row < rows; row += PANEL) {
        const size_t count = rows - row < PANEL ? rows - row : PANEL;
        char *scale = scratch + aligned_portable(count * padded);
        char *start = scale + aligned_portable(count * layer->groups * sizeof(float));
        const struct panel panel = {
            .rows = count,
            .padded = padded,
            .x = x + row * layer->length,
            .values = scratch,
            .scale = (float *)(void *)scale,
            .start = (int32_t *)(void *)start,
        };
        run_panel_portable(layer, &panel, filled, product, y + row * layer->columns, threads);
    }
}

void qsdk_linear_groups_run(const void *layer, const void *x, size_t rows, void *y, void *scratch,
                            int threads)
{
    layer_t *of = layer;
    run_portable(of, x, rows, y, scratch, threads, fill_codes_portable, of->set->codes);
}

void qsdk_linear_groups_run_floats(const void *layer, const void *x, size_t rows, void *y,
                                   void *scratch, int threads)
{
    layer_t *of = layer;
    run_portable(of, x, rows, y, scratch, threads, fill_floats_portable, of->set->floats);
}

const struct qsdk_linear_groups_set *qsdk_linear_groups_find(const char *set)
{
    static const struct qsdk_linear_groups_set *const all[] = {
        &qsdk_linear_groups_portable,
#if defined(__x86_64__) && defined(__GNUC__)
        &qsdk_linear_groups_avx2,
        &qsdk_linear_groups_avx512vnni,
#elif defined(__aarch64__)
        &qsdk_linear_groups_neon,
#endif
#if QSDK_HAS_AVXVNNI
        &qsdk_linear_groups_avxvnni,
#endif
#if QSDK_HAS_DOTPROD
        &qsdk_linear_groups_dotprod,
#endif
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, set))
            return all[i];
    return NULL;
}
