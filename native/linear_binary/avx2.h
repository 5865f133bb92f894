/* The parts of the AVX2 set: coding the input in avx2_input.c, floats in avx2_floats.c. */
#ifndef QSDK_LINEAR_BINARY_AVX2_H
#define QSDK_LINEAR_BINARY_AVX2_H

#include "linear_binary.h"

#define QSDK_BINARY_FLOAT_ROWS_AVX2 32

float qsdk_binary_residual_avx2(const float *x, size_t n, const float *beta, int count);
void qsdk_binary_above_avx2(const float *x, size_t n, const float *threshold, int count, float *sum,
                            int64_t *number);
void qsdk_binary_code_avx2(const float *x, size_t n, const struct qsdk_binary_levels *levels,
                           uint64_t *words);
void qsdk_binary_float_rows_avx2(const qsdk_linear_binary *layer, size_t first, size_t count,
                                 const float *tables, float *y);

#endif
