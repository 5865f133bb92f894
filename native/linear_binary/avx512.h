/* What the AVX-512 sets share: floats, in avx512.c; bytes for tiles, in avx512_tiles.c. */
#ifndef QSDK_LINEAR_BINARY_AVX512_H
#define QSDK_LINEAR_BINARY_AVX512_H

#include "linear_binary.h"

#define QSDK_BINARY_FLOAT_ROWS_AVX512 64

void qsdk_binary_float_rows_avx512(const qsdk_linear_binary *layer, size_t first, size_t count,
                                   const float *tables, float *y);

/* Words of 32 rows as avx512vpopcntdq packs them, to [word][half of the rows][four places][16][4]
 * digits. */
void qsdk_binary_digits_avx512(const uint64_t *words, int parts, size_t count, int8_t *tiles);

/* A qsdk_linear_binary_set's `signs`. */
void qsdk_binary_signs_avx512(const uint64_t *words, int bits, size_t length, int8_t *tiles);

#endif
