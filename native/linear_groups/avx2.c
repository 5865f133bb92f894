/* One iteration is a unit: 64 bytes of codes, in two halves of 8 columns, shifted and masked into
 * operands of vpmaddubsw, each used by all rows of the tile.
 *
 * vpmaddubsw adds two products in int16, and saturates. Input codes are at least -128, weights at
 * most 2^bits - 1, so that a sum of n results is at most n * 2 * 128 * (2^bits - 1) in magnitude:
 *   4 bits  n = 8: 30720          2 bits  n = 16: 12288          7 bits  n = 1: 32512
 * and int16 holds 32767 of either sign. So the sums of 4 units of width 2 or 4, and of 1 unit of
 * width 8, are exact; then they are widened. 8 bits are not exact, and the kernel refuses them.
 * Arithmetic limits any number of rows; one row too, while the weight is in the caches. */
#include "linear_groups.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include "linear_groups_avx2.h"

typedef const struct qsdk_linear_groups layer_t;
typedef const struct qsdk_linear_groups_tile tile_t;

TARGET_AVX2 uint32_t qsdk_linear_groups_largest_avx2(const float *x, size_t n)
{
    const __m256i sign = _mm256_set1_epi32(0x7fffffff);
    __m256i largest = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8) {
        float eight[8] = {0};
        memcpy(eight, x + i, n - i < 8 ? (n - i) * sizeof *x : sizeof eight);
        const __m256i bits = _mm256_castps_si256(_mm256_loadu_ps(eight));
        largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, sign));
    }
    uint32_t lanes[8], most = 0;
    memcpy(lanes, &largest, sizeof lanes);
    for (int i = 0; i < 8; i++)
        most = lanes[i] > most ? lanes[i] : most;
    return most;
}

TARGET_AVX2 static __m128i code_8_avx2(__m256 x, __m256 divisor)
{
    const __m256 low = _mm256_set1_ps(-128), high = _mm256_set1_ps(127);
    const __m256 steps = _mm256_min_ps(_mm256_max_ps(_mm256_div_ps(x, divisor), low), high);
    const __m256i codes = _mm256_cvtps_epi32(steps);
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    return _mm_packs_epi16(words, words);
}

TARGET_AVX2 int32_t qsdk_linear_groups_code_avx2(const float *x, size_t n, float scale,
                                                 int8_t *codes)
{
    const __m256 divisor = _mm256_set1_ps(scale);
    __m256i sum = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8) {
        const size_t count = n - i < 8 ? n - i : 8;
        float eight[8] = {0};
        memcpy(eight, x + i, count * sizeof *x);
        const __m128i bytes = code_8_avx2(_mm256_loadu_ps(eight), divisor);
        memcpy(codes + i, &bytes, count);
        sum = _mm256_add_epi32(sum, _mm256_cvtepi8_epi32(bytes));
    }
    int32_t lanes[8], all = 0;
    memcpy(lanes, &sum, sizeof lanes);
    for (int i = 0; i < 8; i++)
        all += lanes[i];
    return all;
}

/* A few units, so few that int16 holds their sums: acc[m] += the sum of one half. */
BODY_AVX2 void units_avx2(const uint8_t *codes, size_t units, int width, const int8_t *x, int rows,
                          __m256i *acc)
{
    const __m256i mask = _mm256_set1_epi8((char)((1 << width) - 1));
    __m256i sum[QSDK_ROWS_AVX2];
    for (int m = 0; m < rows; m++)
        sum[m] = _mm256_setzero_si256();
    for (size_t u = 0; u < units; u++, codes += QSDK_UNIT) {
        const __m256i unit = half_avx2(codes, 0);
#pragma GCC unroll 4
        for (int bit = 0; bit < 8; bit += width, x += 4 * rows) {
            const __m256i field =
                width == 8 ? unit : _mm256_and_si256(_mm256_srli_epi32(unit, bit), mask);
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++) {
                const __m256i pair = _mm256_maddubs_epi16(field, four_avx2(x + 4 * m));
                sum[m] = _mm256_add_epi16(sum[m], pair);
                __asm__("" : "+x"(sum[m])); /* gcc otherwise adds pairs first, which need room */
            }
        }
    }
    for (int m = 0; m < rows; m++)
        acc[m] = _mm256_add_epi32(acc[m], _mm256_madd_epi16(sum[m], _mm256_set1_epi16(1)));
}

BODY_AVX2 void group_avx2(const uint8_t *codes, size_t units, int width, const int8_t *x, int rows,
                          __m256i *acc)
{
    const size_t most = width == 8 ? 1 : 4;
    for (size_t u = 0; u < units; u += most) {
        const size_t count = units - u < most ? units - u : most;
        const int8_t *here = x + u * (32u / (unsigned)width) * (unsigned)rows;
        prefetch_avx2(codes + u * QSDK_UNIT, count);
        for (int half = 0; half < 2; half++)
            if (count == 4) /* a constant, to be unrolled */
                units_avx2(codes + u * QSDK_UNIT + 32 * half, 4, width, here, rows,
                           acc + half * rows);
            else
                units_avx2(codes + u * QSDK_UNIT + 32 * half, count, width, here, rows,
                           acc + half * rows);
    }
}

TARGET_AVX2 static void codes_avx2(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    switch (tile->rows) {
    case 1:
        codes_of_avx2(layer, block, tile, 1, y, group_avx2);
        break;
    case 2:
        codes_of_avx2(layer, block, tile, 2, y, group_avx2);
        break;
    case 4:
        codes_of_avx2(layer, block, tile, 4, y, group_avx2);
        break;
    default:
        codes_of_avx2(layer, block, tile, 8, y, group_avx2);
    }
}

/* One half of a group: sum[m] = sum of x * (u - zero) over its units. One or two rows have more
 * sums, of every second or fourth k: a product takes longer than what lies between two of them. */
BODY_AVX2 void half_floats_avx2(const uint8_t *codes, size_t units, int width, __m256 zero,
                                const float *x, int rows, __m256 *sum)
{
    const __m256i mask = _mm256_set1_epi32((1 << width) - 1);
    const int ways = rows == 1 ? 4 : rows == 2 ? 2 : 1;
    __m256 part[QSDK_ROWS_AVX2];
    for (int i = 0; i < ways * rows; i++)
        part[i] = _mm256_setzero_ps();
    for (size_t u = 0; u < units; u++, codes += QSDK_UNIT) {
        const __m256i unit = half_avx2(codes, 0);
#pragma GCC unroll 4
        for (int bit = 0; bit < 8; bit += width)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++, x += rows) {
                const __m256i field =
                    _mm256_and_si256(_mm256_srli_epi32(unit, 8 * j + bit), mask);
                const __m256 w = _mm256_sub_ps(_mm256_cvtepi32_ps(field), zero);
                __m256 *to = part + j % ways * rows;
#pragma GCC unroll 8
                for (int m = 0; m < rows; m++)
                    to[m] = _mm256_fmadd_ps(w, _mm256_set1_ps(x[m]), to[m]);
            }
    }
    for (int step = ways / 2 * rows; step >= rows; step /= 2)
        for (int i = 0; i < step; i++)
            part[i] = _mm256_add_ps(part[i], part[i + step]);
    for (int m = 0; m < rows; m++)
        sum[m] = part[m];
}

BODY_AVX2 void group_floats_avx2(const uint8_t *codes, size_t units, int width, const __m256 *zero,
                                 const float *x, int rows, __m256 *sum)
{
    prefetch_avx2(codes, units);
    for (int half = 0; half < 2; half++)
        half_floats_avx2(codes + 32 * half, units, width, zero[half], x, rows, sum + half * rows);
}

BODY_AVX2 void floats_of_avx2(layer_t *layer, size_t block, tile_t *tile, int rows, float *y)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const size_t unit = qsdk_linear_groups_unit_portable(layer->width);
    const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
    const float *x = tile->x;
    __m256 total[2 * QSDK_ROWS_AVX2];
    for (int i = 0; i < 2 * rows; i++)
        total[i] = _mm256_setzero_ps();
    for (size_t g = 0; g < layer->groups; g++) {
        const size_t units = g + 1 < layer->groups ? in.whole : in.last;
        const size_t at = (block * layer->groups + g) * QSDK_COLUMNS;
        __m256 zero[2], sum[2 * QSDK_ROWS_AVX2];
        for (int half = 0; half < 2; half++)
            zero[half] = layer->zeros
                             ? _mm256_cvtepi32_ps(zeros_avx2(layer->zeros + at + 8 * (size_t)half))
                             : _mm256_set1_ps((float)layer->zero);
        if (layer->width == 4)
            group_floats_avx2(codes, units, 4, zero, x, rows, sum);
        else if (layer->width == 2)
            group_floats_avx2(codes, units, 2, zero, x, rows, sum);
        else
            group_floats_avx2(codes, units, 8, zero, x, rows, sum);
        for (int i = 0; i < 2 * rows; i++) {
            const float *scale = layer->scale + at + 8 * (i / rows);
            total[i] = _mm256_fmadd_ps(sum[i], _mm256_loadu_ps(scale), total[i]);
        }
        codes += units * QSDK_UNIT;
        x += units * unit * (size_t)rows;
    }
    finish_avx2(layer, block, total, rows, y);
}

TARGET_AVX2 void qsdk_linear_groups_floats_avx2(layer_t *layer, size_t block, tile_t *tile,
                                                float *y)
{
    switch (tile->rows) {
    case 1:
        floats_of_avx2(layer, block, tile, 1, y);
        break;
    case 2:
        floats_of_avx2(layer, block, tile, 2, y);
        break;
    case 4:
        floats_of_avx2(layer, block, tile, 4, y);
        break;
    default:
        floats_of_avx2(layer, block, tile, 8, y);
    }
}

const struct qsdk_linear_groups_set qsdk_linear_groups_avx2 = {
    .name = "avx2",
    .rows = QSDK_ROWS_AVX2,
    .largest = qsdk_linear_groups_largest_avx2,
    .code = qsdk_linear_groups_code_avx2,
    .codes = codes_avx2,
    .floats = qsdk_linear_groups_floats_avx2,
};
#endif
