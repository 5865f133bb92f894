/* The affine grids of ranges: a few operations per row. */
#include "grid.h"
#include "qsdk_native.h"

void qsdk_grid_rows_portable(const float *low, const float *high, size_t rows, int32_t qmin,
                             int32_t qmax, int symmetric, float *scale, int32_t *zero_point)
{
    for (size_t r = 0; r < rows; r++) {
        const float bottom = low[r] < 0 ? low[r] : 0, top = high[r] > 0 ? high[r] : 0;
        const struct qsdk_grid grid = qsdk_grid_portable(bottom, top, qmin, qmax, symmetric);
        scale[r] = grid.scale;
        zero_point[r] = grid.zero_point;
    }
}
