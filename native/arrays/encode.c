/* Range, grid, codes and packing of rows, a block at a time: the first pass brings a block into the
 * cache, the others find it there, and its codes never leave it. */
#include "arrays.h"

#define ROWS 64

int qsdk_encode_rows_portable(const struct qsdk_arrays *set, const float *x, size_t rows,
                              size_t kernels, size_t kernel_size, int bits, int32_t qmin,
                              int32_t qmax, int symmetric, int stage_k, int stage_c, size_t block,
                              int32_t *error, uint8_t *codes, float *scale, int32_t *zero_point,
                              uint8_t *packed)
{
    const size_t length = kernels * kernel_size;
    float low[ROWS], high[ROWS];
    for (size_t r = 0; r < rows; r += block) {
        const size_t some = rows - r < block ? rows - r : block;
        const float *values = x + r * length;
        uint8_t *out = bits == 8 ? packed : codes;
        if (!set->range_rows(values, some, length, low, high))
            return 0;
        qsdk_grid_rows_portable(low, high, some, qmin, qmax, symmetric, scale + r, zero_point + r);
        if (stage_k || stage_c)
            set->squant(values, some, kernels, kernel_size, scale + r, zero_point + r, qmin, qmax,
                        stage_k, stage_c, error, out);
        else
            set->quantize_rows(values, some, length, scale + r, zero_point + r, qmin, qmax, out);
        if (bits < 8)
            set->pack(codes, some * length, bits, (uint8_t)qmin, packed);
        packed += some * length * (size_t)bits / 8; /* whole bytes, but for the last block */
    }
    return 1;
}
