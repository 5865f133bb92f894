/* One product of 64 bits and one shift a value. */
#include "qsdk_native.h"
#include "requantize.h"

static void requantize_row_portable(const int32_t *restrict acc, size_t length,
                                    struct qsdk_multiplier multiplier, int32_t zero_point,
                                    int32_t qmin, int32_t qmax, uint8_t *restrict codes)
{
    const int64_t low = qmin - zero_point, high = qmax - zero_point;
    for (size_t i = 0; i < length; i++) {
        int64_t steps = (int64_t)acc[i] * multiplier.mantissa + multiplier.half;
        steps >>= multiplier.right;
        steps = steps > low ? steps : low;
        codes[i] = (uint8_t)((steps < high ? steps : high) + zero_point);
    }
}

void qsdk_requantize_rows_portable(const int32_t *acc, size_t rows, size_t length,
                                   const int32_t *mantissa, const int32_t *shift,
                                   int32_t zero_point, int32_t qmin, int32_t qmax, uint8_t *codes)
{
    for (size_t r = 0; r < rows; r++)
        requantize_row_portable(acc + r * length, length,
                                qsdk_multiplier_portable(mantissa[r], shift[r]), zero_point, qmin,
                                qmax, codes + r * length);
}
