/* Range, grid and codes of rows, a block at a time: the first pass brings a block into the cache,
 * and the second finds it there. */
#include "arrays.h"

#define ROWS 64
#define VALUES ((size_t)1 << 16) /* 256 KB, less than what one core has to itself */

int qsdk_encode_rows_portable(const struct qsdk_arrays *set, const float *x, size_t rows,
                              size_t kernels, size_t kernel_size, int32_t qmin, int32_t qmax,
                              int symmetric, int stage_k, int stage_c, int32_t *error,
                              float *scale, int32_t *zero_point, uint8_t *codes)
{
    const size_t length = kernels * kernel_size;
    const size_t fit = length > VALUES ? 1 : VALUES / (length ? length : 1);
    const size_t most = fit < ROWS ? fit : ROWS;
    float low[ROWS], high[ROWS];
    for (size_t r = 0, block; r < rows; r += block) {
        block = rows - r < most ? rows - r : most;
        const float *values = x + r * length;
        uint8_t *out = codes + r * length;
        if (!set->range_rows(values, block, length, low, high))
            return 0;
        qsdk_grid_rows_portable(low, high, block, qmin, qmax, symmetric, scale + r,
                                zero_point + r);
        if (stage_k || stage_c)
            set->squant(values, block, kernels, kernel_size, scale + r, zero_point + r, qmin, qmax,
                        stage_k, stage_c, error, out);
        else
            set->quantize_rows(values, block, length, scale + r, zero_point + r, qmin, qmax, out);
    }
    return 1;
}
