/* Round to nearest, its error, and the range of the data. The division limits the first two: 4
 * values in about 5 cycles with SSE2. The range runs in 16 lanes, so that compilers see minps. */
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

static int range_row_portable(const float *x, size_t length, float *low, float *high)
{
    float lows[16], highs[16];
    int32_t nan[16] = {0};
    for (size_t k = 0; k < 16; k++) {
        lows[k] = QSDK_INFINITY;
        highs[k] = -QSDK_INFINITY;
    }
    size_t i = 0;
    for (; i + 16 <= length; i += 16)
        for (size_t k = 0; k < 16; k++) {
            const float value = x[i + k];
            lows[k] = value < lows[k] ? value : lows[k];
            highs[k] = value > highs[k] ? value : highs[k];
            nan[k] |= value != value;
        }
    for (; i < length; i++) {
        lows[0] = x[i] < lows[0] ? x[i] : lows[0];
        highs[0] = x[i] > highs[0] ? x[i] : highs[0];
        nan[0] |= x[i] != x[i];
    }
    for (size_t k = 1; k < 16; k++) {
        lows[0] = lows[k] < lows[0] ? lows[k] : lows[0];
        highs[0] = highs[k] > highs[0] ? highs[k] : highs[0];
        nan[0] |= nan[k];
    }
    *low = lows[0] + 0.0f; /* no -0 */
    *high = highs[0] + 0.0f;
    return length == 0 || (!nan[0] && *low > -QSDK_INFINITY && *high < QSDK_INFINITY);
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

int qsdk_range_rows_portable(const float *x, size_t rows, size_t length, float *low, float *high)
{
    int finite = 1;
    for (size_t r = 0; r < rows; r++)
        finite &= range_row_portable(x + r * length, length, low + r, high + r);
    return finite;
}
