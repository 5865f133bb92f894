/* Packed codes to floats: some thousand codes at a time are unpacked, which stay in the L1 cache
 * until they are floats. */
#include "arrays.h"

/* Floats of codes [at, at + n) of all; returns how many it did: whole rows, or a part of one. */
static size_t some_portable(const struct qsdk_arrays *set, const uint8_t *codes, size_t at,
                            size_t n, size_t length, int is_signed, const float *scale,
                            const int32_t *zero_point, float *x)
{
    const size_t r = at / length, left = length - at % length;
    const int is_whole = left == length && n >= length;
    const size_t rows = is_whole ? n / length : 1, part = is_whole ? length : n < left ? n : left;
    set->dequantize_rows(codes, rows, part, scale + r, zero_point + r, is_signed, x);
    return rows * part;
}

void qsdk_decode_rows_portable(const struct qsdk_arrays *set, const uint8_t *packed, size_t rows,
                               size_t length, int bits, int is_signed, const float *scale,
                               const int32_t *zero_point, uint8_t *codes, float *x)
{
    if (bits == 8) {
        set->dequantize_rows(packed, rows, length, scale, zero_point, is_signed, x);
        return;
    }
    const size_t all = rows * length;
    for (size_t at = 0; at < all; at += QSDK_DECODE) {
        const size_t n = all - at < QSDK_DECODE ? all - at : QSDK_DECODE;
        const size_t bytes = (n * (size_t)bits + 7) / 8;
        set->unpack(packed + at / 8 * (size_t)bits, bytes, n, bits, is_signed, codes);
        for (size_t i = 0; i < n;)
            i += some_portable(set, codes + i, at + i, n - i, length, is_signed, scale, zero_point,
                               x + at + i);
    }
}
