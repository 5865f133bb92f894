/* The affine grids of ranges: a few operations per row, in double, as scale_and_zero_point in
 * qsdk/affine.py has them. */
#include "qsdk_native.h"

#include <float.h>

/* So that no rounding of the scale makes scale * (code - zero_point) overflow. */
#define LARGEST ((double)FLT_MAX * (1 - 0x1p-20))

static double step_portable(double low, double high, int32_t qmin, int32_t qmax, int symmetric)
{
    if (!(high > low))
        return 1;
    const double step =
        symmetric ? (-low > high ? -low : high) / qmax : (high - low) / (qmax - qmin);
    return step < FLT_MIN ? FLT_MIN : step > FLT_MAX ? FLT_MAX : step;
}

void qsdk_grid_rows_portable(const float *low, const float *high, size_t rows, int32_t qmin,
                             int32_t qmax, int symmetric, float *scale, int32_t *zero_point)
{
    for (size_t r = 0; r < rows; r++) {
        const float bottom = low[r] < 0 ? low[r] : 0, top = high[r] > 0 ? high[r] : 0;
        scale[r] = (float)step_portable(bottom, top, qmin, qmax, symmetric);
        zero_point[r] = 0;
        if (!symmetric) {
            const float lowest = qsdk_clamp_portable(bottom / scale[r], -1e6f, 0);
            const float zero = (float)qmin - qsdk_round_portable(lowest);
            zero_point[r] = (int32_t)qsdk_clamp_portable(zero, (float)qmin, (float)qmax);
        }
        const int32_t below = zero_point[r] - qmin, above = qmax - zero_point[r];
        const float ceiling = (float)(LARGEST / (below > above ? below : above));
        scale[r] = scale[r] < ceiling ? scale[r] : ceiling;
    }
}
