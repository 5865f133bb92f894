/* Round to nearest, and its error. The division limits: 4 values in about 5 cycles with SSE2. */
#include "qsdk_native.h"

#include <math.h>

static void quantize_row_portable(const float *restrict x, size_t length, float scale,
                                  int32_t zero_point, int32_t qmin, int32_t qmax,
                                  uint8_t *restrict codes)
{
    const float low = (float)(qmin - zero_point), high = (float)(qmax - zero_point);
    for (size_t i = 0; i < length; i++) {
        const float steps = qsdk_round_portable(qsdk_clamp_portable(x[i] / scale, low, high));
        codes[i] = (uint8_t)((int32_t)steps + zero_point);
    }
}

static int64_t squared_error_row_portable(const float *x, size_t length, float scale,
                                          int32_t zero_point, int32_t qmin, int32_t qmax)
{
    const float low = (float)(qmin - zero_point), high = (float)(qmax - zero_point);
    int64_t sum = 0;
    for (size_t i = 0; i < length; i++) {
        const float u = qsdk_clamp_portable(x[i] / scale, low - QSDK_REACH, high + QSDK_REACH);
        const float steps = qsdk_round_portable(qsdk_clamp_portable(u, low, high));
        const float size = qsdk_round_portable(fabsf(steps - u) * 0x1p10f);
        const uint32_t d = (uint32_t)(int32_t)size; /* SSE2 widens only unsigned products */
        sum += (int64_t)((uint64_t)d * d);
    }
    return sum;
}

void qsdk_quantize_rows_portable(const float *x, size_t rows, size_t length, const float *scale,
                                 const int32_t *zero_point, int32_t qmin, int32_t qmax,
                                 uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++)
        quantize_row_portable(x + r * length, length, scale[r], zero_point[r], qmin, qmax,
                              codes + r * length);
}

void qsdk_squared_error_rows_portable(const float *x, size_t rows, size_t length,
                                      const float *scale, const int32_t *zero_point, int32_t qmin,
                                      int32_t qmax, int64_t *error)
{
    for (size_t r = 0; r < rows; r++)
        error[r] = squared_error_row_portable(x + r * length, length, scale[r], zero_point[r],
                                              qmin, qmax);
}
