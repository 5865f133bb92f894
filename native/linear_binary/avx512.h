/* What both AVX-512 sets share: coding the input, and floats. In avx512.c. */
#ifndef QSDK_LINEAR_BINARY_AVX512_H
#define QSDK_LINEAR_BINARY_AVX512_H

#include "linear_binary.h"

#define QSDK_BINARY_FLOAT_ROWS_AVX512 64

float qsdk_binary_residual_avx512(const float *x, size_t n, const float *beta, int count);
void qsdk_binary_above_avx512(const float *x, size_t n, const float *threshold, int count,
                              float *sum, int64_t *number);
void qsdk_binary_code_avx512(const float *x, size_t n, const struct qsdk_binary_levels *levels,
                             uint64_t *words);
void qsdk_binary_float_rows_avx512(const qsdk_linear_binary *layer, size_t first, size_t count,
                                   const float *tables, float *y);

#endif
