/* The affine grid of a range, one for weights, rows of activations, groups of them and images: what
 * scale_and_zero_point in qsdk/affine.py states.
 *
 *   scale      = (high - low) / (qmax - qmin), or max(-low, high) / qmax of a symmetric grid
 *   zero_point = qmin - rne(low / scale), within qmin..qmax, or 0
 *
 * The quotient is a double and scale rounds it; low / scale is a float. */
#ifndef QSDK_GRID_H
#define QSDK_GRID_H

#include <float.h>
#include <stdint.h>

struct qsdk_grid {
    float scale;
    int32_t zero_point;
};

/* The floor keeps tiny data divisible; a range of no width has scale 1. */
static inline float qsdk_grid_scale_portable(double low, double high, int32_t qmin, int32_t qmax,
                                             int symmetric)
{
    if (!(high > low))
        return 1;
    const double step =
        symmetric ? (-low > high ? -low : high) / qmax : (high - low) / (qmax - qmin);
    return (float)(step < FLT_MIN ? FLT_MIN : step > FLT_MAX ? FLT_MAX : step);
}

/* qmin - rne(low / scale): 1.5 * 2^52 leaves a double no bits for a fraction. */
static inline int32_t qsdk_grid_zero_portable(float low, float scale, int32_t qmin, int32_t qmax)
{
    const float quotient = low / scale;
    const double shifted = (double)(quotient > -1e6f ? quotient : -1e6f) + 0x1.8p52;
    const double zero = qmin - (shifted - 0x1.8p52);
    return zero < qmax ? (int32_t)zero : qmax;
}

/* low and high finite, low <= 0 <= high. The ceiling keeps scale * (code - zero_point) finite. */
static inline struct qsdk_grid qsdk_grid_portable(float low, float high, int32_t qmin, int32_t qmax,
                                                  int symmetric)
{
    const float scale = qsdk_grid_scale_portable(low, high, qmin, qmax, symmetric);
    const int32_t zero = symmetric ? 0 : qsdk_grid_zero_portable(low, scale, qmin, qmax);
    if (scale < FLT_MAX / 512) /* below any ceiling: a division saved */
        return (struct qsdk_grid){scale, zero};
    const int32_t below = zero - qmin, above = qmax - zero;
    const double largest = (double)FLT_MAX * (1 - 0x1p-20);
    const float ceiling = (float)(largest / (below > above ? below : above));
    return (struct qsdk_grid){scale < ceiling ? scale : ceiling, zero};
}

#endif
