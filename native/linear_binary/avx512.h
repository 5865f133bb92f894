/* What both AVX-512 sets share: floats. In avx512.c. */
#ifndef QSDK_LINEAR_BINARY_AVX512_H
#define QSDK_LINEAR_BINARY_AVX512_H

#include "linear_binary.h"

#define QSDK_BINARY_FLOAT_ROWS_AVX512 64

void qsdk_binary_float_rows_avx512(const qsdk_linear_binary *layer, size_t first, size_t count,
                                   const float *tables, float *y);

#endif
