/* What the sets with ymm registers share: coding the input, the end of a tile, floats.
 *
 * A ymm register has 8 of the 16 columns, so everything comes in halves. */
#ifndef QSDK_LINEAR_GROUPS_AVX2_H
#define QSDK_LINEAR_GROUPS_AVX2_H

#if defined(__x86_64__) && defined(__GNUC__)
#include "linear_groups.h"

#include <immintrin.h>
#include <string.h>

#define TARGET_AVX2 __attribute__((target("avx2,fma")))
#define BODY_AVX2 TARGET_AVX2 static inline __attribute__((always_inline))

enum { QSDK_ROWS_AVX2 = 8, QSDK_AHEAD_AVX2 = 8192 };

uint32_t qsdk_linear_groups_largest_avx2(const float *x, size_t n);
int32_t qsdk_linear_groups_code_avx2(const float *x, size_t n, float scale, int8_t *codes);
qsdk_linear_groups_product qsdk_linear_groups_floats_avx2;

BODY_AVX2 __m256i four_avx2(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm256_set1_epi32(bits);
}

BODY_AVX2 __m256i half_avx2(const uint8_t *unit, int half)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)(unit + 32 * half));
}

/* Units that will be needed soon. */
BODY_AVX2 void prefetch_avx2(const uint8_t *codes, size_t units)
{
    for (size_t u = 0; u < units; u++)
        _mm_prefetch((const char *)codes + u * QSDK_UNIT + QSDK_AHEAD_AVX2, _MM_HINT_T0);
}

/* The zeros of 8 columns. */
BODY_AVX2 __m256i zeros_avx2(const uint8_t *zeros)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)zeros));
}

/* Bias, limits and the columns that the layer has; total[half * rows + m]. */
BODY_AVX2 void finish_avx2(const struct qsdk_linear_groups *layer, size_t block,
                           const __m256 *total, int rows, float *y)
{
    const size_t columns = qsdk_linear_groups_columns_portable(layer, block);
    const float *bias = layer->bias + block * QSDK_COLUMNS;
    const __m256 low = _mm256_set1_ps(layer->low), high = _mm256_set1_ps(layer->high);
    for (int m = 0; m < rows; m++) {
        float whole[QSDK_COLUMNS];
        for (int half = 0; half < 2; half++) {
            __m256 value = _mm256_add_ps(total[half * rows + m], _mm256_loadu_ps(bias + 8 * half));
            value = _mm256_min_ps(high, _mm256_max_ps(low, value)); /* NaN in the second stays */
            _mm256_storeu_ps(whole + 8 * half, value);
        }
        memcpy(y + (size_t)m * layer->columns, whole, columns * sizeof *y);
    }
}

/* What one group of codes adds: total += float32(acc) * (scale_x * scale), never fused. */
BODY_AVX2 void add_group_avx2(const __m256i *acc, const float *scale_x, const float *scale,
                              int rows, __m256 *total)
{
    for (int half = 0; half < 2; half++) {
        const __m256 scale_w = _mm256_loadu_ps(scale + 8 * half);
        for (int m = 0; m < rows; m++) {
            const __m256 step = _mm256_mul_ps(_mm256_set1_ps(scale_x[m]), scale_w);
            const __m256 part = _mm256_mul_ps(_mm256_cvtepi32_ps(acc[half * rows + m]), step);
            total[half * rows + m] = _mm256_add_ps(total[half * rows + m], part);
        }
    }
}

/* acc before the first code: minus the sum of the input's codes, times the zeros. */
BODY_AVX2 void start_avx2(const int32_t *start, const uint8_t *zeros, int rows, __m256i *acc)
{
    for (int half = 0; half < 2; half++)
        for (int m = 0; m < rows; m++) {
            const __m256i sum = _mm256_set1_epi32(start[m]);
            acc[half * rows + m] =
                zeros ? _mm256_mullo_epi32(sum, zeros_avx2(zeros + 8 * half)) : sum;
        }
}

/* acc[half * rows + m] += the sum of codes over a group. */
typedef void qsdk_linear_groups_group_avx2(const uint8_t *codes, size_t units, int width,
                                           const int8_t *x, int rows, __m256i *acc);

/* A tile; rows and group are constants, so that all of it becomes one function. */
BODY_AVX2 void codes_of_avx2(const struct qsdk_linear_groups *layer, size_t block,
                             const struct qsdk_linear_groups_tile *tile, int rows, float *y,
                             qsdk_linear_groups_group_avx2 *group)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const size_t unit = qsdk_linear_groups_unit_portable(layer->width), r = (size_t)rows;
    const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
    const int8_t *x = tile->x;
    __m256 total[2 * QSDK_ROWS_AVX2];
    for (int i = 0; i < 2 * rows; i++)
        total[i] = _mm256_setzero_ps();
    for (size_t g = 0; g < layer->groups; g++) {
        const size_t units = g + 1 < layer->groups ? in.whole : in.last;
        const size_t at = (block * layer->groups + g) * QSDK_COLUMNS;
        __m256i acc[2 * QSDK_ROWS_AVX2];
        start_avx2(tile->start + g * r, layer->zeros ? layer->zeros + at : NULL, rows, acc);
        if (layer->width == 4)
            group(codes, units, 4, x, rows, acc);
        else if (layer->width == 2)
            group(codes, units, 2, x, rows, acc);
        else
            group(codes, units, 8, x, rows, acc);
        add_group_avx2(acc, tile->scale + g * r, layer->scale + at, rows, total);
        codes += units * QSDK_UNIT;
        x += units * unit * r;
    }
    finish_avx2(layer, block, total, rows, y);
}

#endif
#endif
