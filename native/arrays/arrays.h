/* The functions on arrays, once per instruction set. What they compute, each set to the bit the
 * same, is stated in qsdk_native.h. */
#ifndef QSDK_ARRAYS_H
#define QSDK_ARRAYS_H

#include "histogram.h"
#include "qsdk_native.h"

/* [cffi] */
typedef uint8_t qsdk_pack_function(const uint8_t *codes, size_t n, int bits, uint8_t qmin,
                                   uint8_t *packed);
typedef int qsdk_unpack_function(const uint8_t *packed, size_t packed_bytes, size_t n, int bits,
                                 int is_signed, uint8_t *codes);
typedef int qsdk_range_rows_function(const float *x, size_t rows, size_t length, float *low,
                                     float *high);
typedef void qsdk_quantize_rows_function(const float *x, size_t rows, size_t length,
                                         const float *scale, const int32_t *zero_point,
                                         int32_t qmin, int32_t qmax, uint8_t *codes);
typedef void qsdk_dequantize_rows_function(const uint8_t *codes, size_t rows, size_t length,
                                           const float *scale, const int32_t *zero_point,
                                           int is_signed, float *x);
typedef void qsdk_requantize_rows_function(const int32_t *acc, size_t rows, size_t length,
                                           const int32_t *mantissa, const int32_t *shift,
                                           int32_t zero_point, int32_t qmin, int32_t qmax,
                                           uint8_t *codes);
typedef void qsdk_squared_error_rows_function(const float *x, size_t rows, size_t length,
                                              const float *scale, const int32_t *zero_point,
                                              int32_t qmin, int32_t qmax, int64_t *error);
typedef void qsdk_squant_function(const float *x, size_t rows, size_t kernels, size_t kernel_size,
                                  const float *scale, const int32_t *zero_point, int32_t qmin,
                                  int32_t qmax, int stage_k, int stage_c, int32_t *error,
                                  uint8_t *codes);

struct qsdk_arrays {
    const char *name;     /* how the functions of the set end */
    const char *features; /* what of qsdk_cpu_feature_name it needs, with spaces between */
    qsdk_pack_function *pack;
    qsdk_unpack_function *unpack;
    qsdk_range_rows_function *range_rows;
    qsdk_quantize_rows_function *quantize_rows;
    qsdk_dequantize_rows_function *dequantize_rows;
    qsdk_requantize_rows_function *requantize_rows;
    qsdk_squared_error_rows_function *squared_error_rows;
    qsdk_squant_function *squant;
    qsdk_count_function *count;
};

/* The sets of this platform, the fastest first, "portable" last; then NULL. */
const struct qsdk_arrays *qsdk_arrays(uint32_t i);

/* range_rows, qsdk_grid_rows, squant and pack in one, of rows of kernels * kernel_size values;
 * without stages that is quantize_rows. block is how many rows are taken at a time: at most 64, and
 * their codes fill whole bytes. error and codes are scratch, for one row and for a block. Returns
 * 1, or 0 if a value is not finite, and then scale, zero_point and packed mean nothing. */
int qsdk_encode_rows_portable(const struct qsdk_arrays *set, const float *x, size_t rows,
                              size_t kernels, size_t kernel_size, int bits, int32_t qmin,
                              int32_t qmax, int symmetric, int stage_k, int stage_c, size_t block,
                              int32_t *error, uint8_t *codes, float *scale, int32_t *zero_point,
                              uint8_t *packed);

/* unpack and dequantize_rows in one. codes is scratch of QSDK_DECODE bytes; none of 8 bits. */
#define QSDK_DECODE 4096
void qsdk_decode_rows_portable(const struct qsdk_arrays *set, const uint8_t *packed, size_t rows,
                               size_t length, int bits, int is_signed, const float *scale,
                               const int32_t *zero_point, uint8_t *codes, float *x);

/* counts[2 * bins] and seen of n values; tables is scratch of 4 * (2 * bins + QSDK_ZERO_PLACES)
 * words. Returns 1, or 0 if a value is not finite, and then counts and seen mean nothing. */
int qsdk_histogram_portable(const struct qsdk_arrays *set, const float *x, size_t n, int32_t bins,
                            uint32_t *tables, int64_t *counts, struct qsdk_histogram *seen);

/* The same for each in turn. tables and fresh are scratch like tables and counts, of the most bins. */
void qsdk_histogram_each_portable(const struct qsdk_arrays *set, struct qsdk_counting *each,
                                  size_t count, uint32_t *tables, int64_t *fresh);
/* [/cffi] */

#if defined(__x86_64__) && defined(__GNUC__)
#define QSDK_X86_ARRAYS
qsdk_pack_function qsdk_pack_avx512, qsdk_pack_avx2;
qsdk_range_rows_function qsdk_range_rows_avx512, qsdk_range_rows_avx2;
qsdk_unpack_function qsdk_unpack_avx512, qsdk_unpack_avx2;
qsdk_quantize_rows_function qsdk_quantize_rows_avx512, qsdk_quantize_rows_avx2;
qsdk_dequantize_rows_function qsdk_dequantize_rows_avx512, qsdk_dequantize_rows_avx2;
qsdk_requantize_rows_function qsdk_requantize_rows_avx512, qsdk_requantize_rows_avx2;
qsdk_squared_error_rows_function qsdk_squared_error_rows_avx512, qsdk_squared_error_rows_avx2;
qsdk_squant_function qsdk_squant_avx512, qsdk_squant_avx2;
#endif

#if defined(__aarch64__) && defined(__GNUC__)
#define QSDK_NEON_ARRAYS
qsdk_pack_function qsdk_pack_neon;
qsdk_unpack_function qsdk_unpack_neon;
qsdk_range_rows_function qsdk_range_rows_neon;
qsdk_quantize_rows_function qsdk_quantize_rows_neon;
qsdk_dequantize_rows_function qsdk_dequantize_rows_neon;
qsdk_requantize_rows_function qsdk_requantize_rows_neon;
qsdk_squared_error_rows_function qsdk_squared_error_rows_neon;
#endif

#endif
