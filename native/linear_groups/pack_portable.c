/* Packing a weight, once: a strided read and a byte written at a time, some 10 ns per 64 bytes of
 * packed codes. */
#include "linear_groups.h"

#include <string.h>

size_t qsdk_linear_groups_packed(size_t columns, size_t length, int width)
{
    const size_t blocks = (columns + QSDK_COLUMNS - 1) / QSDK_COLUMNS;
    return blocks * qsdk_linear_groups_units_portable(length, width) * QSDK_UNIT;
}

/* One unit; codes points to its first, `columns` and `length` are what is left of the weight. */
static void pack_unit_portable(const uint8_t *codes, size_t stride, size_t columns, size_t length,
                               int width, uint8_t *unit)
{
    const size_t most = qsdk_linear_groups_unit_portable(width);
    memset(unit, 0, QSDK_UNIT);
    for (size_t n = 0; n < QSDK_COLUMNS && n < columns; n++)
        for (size_t k = 0; k < most && k < length; k++) {
            const unsigned shifted = (unsigned)codes[n * stride + k] << width * (int)(k / 4);
            unit[4 * n + k % 4] = (uint8_t)(unit[4 * n + k % 4] | shifted);
        }
}

void qsdk_linear_groups_pack(const uint8_t *codes, size_t columns, size_t length, int width,
                             uint8_t *packed)
{
    const size_t unit = qsdk_linear_groups_unit_portable(width);
    for (size_t n = 0; n < columns; n += QSDK_COLUMNS)
        for (size_t k = 0; k < length; k += unit, packed += QSDK_UNIT)
            pack_unit_portable(codes + n * length + k, length, columns - n, length - k, width,
                               packed);
}
