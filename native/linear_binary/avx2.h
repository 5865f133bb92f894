/* The part of the AVX2 set for floats, in avx2_floats.c. */
#ifndef QSDK_LINEAR_BINARY_AVX2_H
#define QSDK_LINEAR_BINARY_AVX2_H

#include "linear_binary.h"

#define QSDK_BINARY_FLOAT_ROWS_AVX2 32

void qsdk_binary_float_rows_avx2(const qsdk_linear_binary *layer, size_t first, size_t count,
                                 const float *tables, float *y);

#endif
