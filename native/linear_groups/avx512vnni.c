/* One iteration is a unit: 64 bytes of codes loaded once, shifted and masked into operands of
 * vpdpbusd, each used by all rows of the tile with four of their codes broadcast from memory. Zmm
 * lanes are the 16 columns, so that there is nothing to sum across lanes. One row is limited by
 * reading the weights, eight by vpdpbusd. */
#include "linear_groups.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define BODY TARGET static inline __attribute__((always_inline))

enum { MOST = 8, AHEAD = 8192 }; /* AHEAD: bytes of prefetch, measured */

typedef const struct qsdk_linear_groups layer_t;
typedef const struct qsdk_linear_groups_tile tile_t;

TARGET static uint32_t largest_avx512vnni(const float *x, size_t n)
{
    const __m512i sign = _mm512_set1_epi32(0x7fffffff);
    __m512i largest = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 in = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        const __m512i bits = _mm512_maskz_loadu_epi32(in, x + i);
        largest = _mm512_max_epu32(largest, _mm512_and_si512(bits, sign));
    }
    return _mm512_reduce_max_epu32(largest);
}

TARGET static int32_t code_avx512vnni(const float *x, size_t n, float scale, int8_t *codes)
{
    const __m512 divisor = _mm512_set1_ps(scale);
    __m512i sum = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 in = n - i < 16 ? (__mmask16)((1u << (n - i)) - 1) : 0xffff;
        const __m512 steps = _mm512_div_ps(_mm512_maskz_loadu_ps(in, x + i), divisor);
        const __m128i packed = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(steps));
        _mm_mask_storeu_epi8(codes + i, in, packed);
        sum = _mm512_add_epi32(sum, _mm512_cvtepi8_epi32(packed));
    }
    return _mm512_reduce_add_epi32(sum);
}

BODY void finish_avx512vnni(layer_t *layer, size_t block, const __m512 *total, int rows, float *y)
{
    const size_t columns = qsdk_linear_groups_columns_portable(layer, block);
    const __mmask16 in = (__mmask16)((1u << columns) - 1);
    const __m512 bias = _mm512_loadu_ps(layer->bias + block * QSDK_COLUMNS);
    const __m512 low = _mm512_set1_ps(layer->low), high = _mm512_set1_ps(layer->high);
    for (int m = 0; m < rows; m++) {
        __m512 value = _mm512_add_ps(total[m], bias);
        value = _mm512_min_ps(high, _mm512_max_ps(low, value)); /* NaN in the second stays */
        _mm512_mask_storeu_ps(y + (size_t)m * layer->columns, in, value);
    }
}

BODY __m512i four_avx512vnni(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm512_set1_epi32(bits);
}

/* One group: acc[m] += sum of codes over its units. One row alone has two sums, one of them of odd
 * fields: vpdpbusd takes longer than what lies between two of its uses. */
BODY void group_avx512vnni(const uint8_t *codes, size_t units, int width, const int8_t *x, int rows,
                           __m512i *acc)
{
    const __m512i mask = _mm512_set1_epi8((char)((1 << width) - 1));
    const int two = rows == 1 && width < 8;
    __m512i odd = _mm512_setzero_si512();
    for (size_t u = 0; u < units; u++, codes += QSDK_UNIT) {
        const __m512i unit = _mm512_loadu_si512(codes);
        _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int bit = 0; bit < 8; bit += width, x += 4 * rows) {
            const __m512i field =
                width == 8 ? unit : _mm512_and_si512(_mm512_srli_epi32(unit, (unsigned)bit), mask);
            if (two && bit / width % 2 == 1)
                odd = _mm512_dpbusd_epi32(odd, field, four_avx512vnni(x));
            else
#pragma GCC unroll 8
                for (int m = 0; m < rows; m++)
                    acc[m] = _mm512_dpbusd_epi32(acc[m], field, four_avx512vnni(x + 4 * m));
        }
    }
    if (two)
        acc[0] = _mm512_add_epi32(acc[0], odd);
}

BODY void codes_of_avx512vnni(layer_t *layer, size_t block, tile_t *tile, int rows, float *y)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const size_t unit = qsdk_linear_groups_unit_portable(layer->width);
    const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
    const float *scale = layer->scale + block * layer->groups * QSDK_COLUMNS;
    const uint8_t *zeros = layer->zeros ? layer->zeros + block * layer->groups * QSDK_COLUMNS : NULL;
    const int8_t *x = tile->x;
    __m512 total[MOST];
    for (int m = 0; m < rows; m++)
        total[m] = _mm512_setzero_ps();
    for (size_t g = 0; g < layer->groups; g++, scale += QSDK_COLUMNS) {
        const size_t units = g + 1 < layer->groups ? in.whole : in.last;
        __m512i acc[MOST];
        for (int m = 0; m < rows; m++)
            acc[m] = _mm512_set1_epi32(tile->start[g * (size_t)rows + (size_t)m]);
        if (zeros) {
            const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(zeros + 16 * g));
            for (int m = 0; m < rows; m++)
                acc[m] = _mm512_mullo_epi32(acc[m], _mm512_cvtepu8_epi32(bytes));
        }
        if (layer->width == 4)
            group_avx512vnni(codes, units, 4, x, rows, acc);
        else if (layer->width == 2)
            group_avx512vnni(codes, units, 2, x, rows, acc);
        else
            group_avx512vnni(codes, units, 8, x, rows, acc);
        codes += units * QSDK_UNIT;
        x += units * unit * (size_t)rows;
        const __m512 scale_w = _mm512_loadu_ps(scale);
        for (int m = 0; m < rows; m++) {
            const __m512 scale_x = _mm512_set1_ps(tile->scale[g * (size_t)rows + (size_t)m]);
            const __m512 step = _mm512_mul_ps(scale_x, scale_w);
            total[m] = _mm512_add_ps(total[m], _mm512_mul_ps(_mm512_cvtepi32_ps(acc[m]), step));
        }
    }
    finish_avx512vnni(layer, block, total, rows, y);
}

TARGET static void codes_avx512vnni(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    switch (tile->rows) {
    case 1:
        codes_of_avx512vnni(layer, block, tile, 1, y);
        break;
    case 2:
        codes_of_avx512vnni(layer, block, tile, 2, y);
        break;
    case 4:
        codes_of_avx512vnni(layer, block, tile, 4, y);
        break;
    default:
        codes_of_avx512vnni(layer, block, tile, 8, y);
    }
}

/* The 16 floats u - zero of one k; table[i] is i - zero, of i & 3 where codes have two bits, since
 * vpermps looks at four bits of an index. */
BODY __m512 decode_avx512vnni(__m512i unit, int width, int at, __m512 table)
{
    const __m512i shifted = _mm512_srli_epi32(unit, (unsigned)at);
    if (width < 8)
        return _mm512_permutexvar_ps(shifted, table);
    return _mm512_cvtepi32_ps(_mm512_and_si512(shifted, _mm512_set1_epi32(0xff)));
}

/* One group: sum[m] = sum of x * (u - zero) over its units. One or two rows have more sums, of every
 * second or fourth k: a product takes longer than what lies between two uses of a sum. */
BODY void group_floats_avx512vnni(const uint8_t *codes, size_t units, int width, int subtract,
                                  __m512 zero, const float *x, int rows, __m512 *sum)
{
    const __m512i index = _mm512_and_si512(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5,
                                                            4, 3, 2, 1, 0),
                                           _mm512_set1_epi32((1 << width) - 1));
    const __m512 plain = _mm512_cvtepi32_ps(index);
    const __m512 table = subtract ? plain : _mm512_sub_ps(plain, zero);
    const int ways = rows == 1 ? 4 : rows == 2 ? 2 : 1;
    __m512 part[MOST];
    for (int m = 0; m < ways * rows; m++)
        part[m] = _mm512_setzero_ps();
    for (size_t u = 0; u < units; u++, codes += QSDK_UNIT) {
        const __m512i unit = _mm512_loadu_si512(codes);
        _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
#pragma GCC unroll 4
        for (int bit = 0; bit < 8; bit += width)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++, x += rows) {
                __m512 w = decode_avx512vnni(unit, width, 8 * j + bit, table);
                if (subtract || width == 8)
                    w = _mm512_sub_ps(w, zero);
#pragma GCC unroll 8
                for (int m = 0; m < rows; m++)
                    part[j % ways * rows + m] =
                        _mm512_fmadd_ps(w, _mm512_set1_ps(x[m]), part[j % ways * rows + m]);
            }
    }
    for (int step = ways / 2 * rows; step >= rows; step /= 2)
        for (int m = 0; m < step; m++)
            part[m] = _mm512_add_ps(part[m], part[m + step]);
    for (int m = 0; m < rows; m++)
        sum[m] = part[m];
}

BODY void floats_of_avx512vnni(layer_t *layer, size_t block, tile_t *tile, int rows, int subtract,
                               float *y)
{
    const struct qsdk_linear_groups_units in = qsdk_linear_groups_in_portable(layer);
    const size_t unit = qsdk_linear_groups_unit_portable(layer->width);
    const uint8_t *codes = qsdk_linear_groups_block_portable(layer, block);
    const size_t at = block * layer->groups * QSDK_COLUMNS;
    const float *x = tile->x;
    __m512 total[MOST];
    for (int m = 0; m < rows; m++)
        total[m] = _mm512_setzero_ps();
    for (size_t g = 0; g < layer->groups; g++) {
        const size_t units = g + 1 < layer->groups ? in.whole : in.last, here = at + 16 * g;
        __m512 zero = _mm512_set1_ps((float)layer->zero), sum[MOST];
        if (subtract)
            zero = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(
                _mm_loadu_si128((const __m128i *)(const void *)(layer->zeros + here))));
        if (layer->width == 4)
            group_floats_avx512vnni(codes, units, 4, subtract, zero, x, rows, sum);
        else if (layer->width == 2)
            group_floats_avx512vnni(codes, units, 2, subtract, zero, x, rows, sum);
        else
            group_floats_avx512vnni(codes, units, 8, subtract, zero, x, rows, sum);
        codes += units * QSDK_UNIT;
        x += units * unit * (size_t)rows;
        const __m512 scale = _mm512_loadu_ps(layer->scale + here);
        for (int m = 0; m < rows; m++)
            total[m] = _mm512_fmadd_ps(sum[m], scale, total[m]);
    }
    finish_avx512vnni(layer, block, total, rows, y);
}

BODY void floats_rows_avx512vnni(layer_t *layer, size_t block, tile_t *tile, int rows, float *y)
{
    if (layer->zeros)
        floats_of_avx512vnni(layer, block, tile, rows, 1, y);
    else
        floats_of_avx512vnni(layer, block, tile, rows, 0, y);
}

TARGET static void floats_avx512vnni(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    switch (tile->rows) {
    case 1:
        floats_rows_avx512vnni(layer, block, tile, 1, y);
        break;
    case 2:
        floats_rows_avx512vnni(layer, block, tile, 2, y);
        break;
    case 4:
        floats_rows_avx512vnni(layer, block, tile, 4, y);
        break;
    default:
        floats_rows_avx512vnni(layer, block, tile, 8, y);
    }
}

const struct qsdk_linear_groups_set qsdk_linear_groups_avx512vnni = {
    .name = "avx512vnni",
    .rows = MOST,
    .largest = largest_avx512vnni,
    .code = code_avx512vnni,
    .codes = codes_avx512vnni,
    .floats = floats_avx512vnni,
};
#endif
