/* avx2.c with vpdpbusd in the place of vpmaddubsw: it adds four products in int32 at once, nothing
 * saturates, and 8 bits are exact too. */
#include "linear_groups.h"

#if QSDK_HAS_AVXVNNI
#include "linear_groups_avx2.h"

#define TARGET __attribute__((target("avx2,fma,avxvnni")))
#define BODY TARGET static inline __attribute__((always_inline))

typedef const struct qsdk_linear_groups layer_t;
typedef const struct qsdk_linear_groups_tile tile_t;

/* acc[m] += the sum of codes over one half of a group. */
BODY void half_avxvnni(const uint8_t *codes, size_t units, int width, const int8_t *x, int rows,
                       __m256i *acc)
{
    const __m256i mask = _mm256_set1_epi8((char)((1 << width) - 1));
    for (size_t u = 0; u < units; u++, codes += QSDK_UNIT) {
        const __m256i unit = half_avx2(codes, 0);
#pragma GCC unroll 4
        for (int bit = 0; bit < 8; bit += width, x += 4 * rows) {
            const __m256i field =
                width == 8 ? unit : _mm256_and_si256(_mm256_srli_epi32(unit, bit), mask);
#pragma GCC unroll 8
            for (int m = 0; m < rows; m++)
                acc[m] = _mm256_dpbusd_avx_epi32(acc[m], field, four_avx2(x + 4 * m));
        }
    }
}

BODY void group_avxvnni(const uint8_t *codes, size_t units, int width, const int8_t *x, int rows,
                        __m256i *acc)
{
    prefetch_avx2(codes, units);
    for (int half = 0; half < 2; half++)
        half_avxvnni(codes + 32 * half, units, width, x, rows, acc + half * rows);
}

TARGET static void codes_avxvnni(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    switch (tile->rows) {
    case 1:
        codes_of_avx2(layer, block, tile, 1, y, group_avxvnni);
        break;
    case 2:
        codes_of_avx2(layer, block, tile, 2, y, group_avxvnni);
        break;
    case 4:
        codes_of_avx2(layer, block, tile, 4, y, group_avxvnni);
        break;
    default:
        codes_of_avx2(layer, block, tile, 8, y, group_avxvnni);
    }
}

const struct qsdk_linear_groups_set qsdk_linear_groups_avxvnni = {
    .name = "avxvnni",
    .rows = QSDK_ROWS_AVX2,
    .largest = qsdk_linear_groups_largest_avx2,
    .code = qsdk_linear_groups_code_avx2,
    .codes = codes_avxvnni,
    .floats = qsdk_linear_groups_floats_avx2,
};
#endif
