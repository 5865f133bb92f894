/* One subtraction, one conversion and one product a value; writing floats limits it. */
#include "qsdk_native.h"

static void dequantize_row_portable(const uint8_t *restrict codes, size_t length, float scale,
                                    int32_t zero_point, int is_signed, float *restrict x)
{
    /* An int8 code, its highest bit turned round, is the code + 128 without a sign. */
    const uint8_t flip = is_signed ? 0x80 : 0;
    const int32_t zero = zero_point + flip;
    for (size_t i = 0; i < length; i++)
        x[i] = (float)((int32_t)(uint8_t)(codes[i] ^ flip) - zero) * scale;
}

void qsdk_dequantize_rows_portable(const uint8_t *codes, size_t rows, size_t length,
                                   const float *scale, const int32_t *zero_point, int is_signed,
                                   float *x)
{
    for (size_t r = 0; r < rows; r++)
        dequantize_row_portable(codes + r * length, length, scale[r], zero_point[r], is_signed,
                                x + r * length);
}
