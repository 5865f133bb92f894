/* neon.c with sdot in the place of four instructions. Not timed: see there. */
#include "linear_groups.h"

#if QSDK_HAS_DOTPROD
#include "linear_groups_neon.h"

#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))

typedef const struct qsdk_linear_groups layer_t;
typedef const struct qsdk_linear_groups_tile tile_t;

TARGET static inline __attribute__((always_inline)) int32x4_t
dot_dotprod(int32x4_t acc, int8x16_t weight, int8x16_t x)
{
    return vdotq_s32(acc, weight, x);
}

TARGET static void codes_dotprod(layer_t *layer, size_t block, tile_t *tile, float *y)
{
    switch (tile->rows) {
    case 1:
        codes_of_neon(layer, block, tile, 1, y, dot_dotprod);
        break;
    case 2:
        codes_of_neon(layer, block, tile, 2, y, dot_dotprod);
        break;
    case 4:
        codes_of_neon(layer, block, tile, 4, y, dot_dotprod);
        break;
    default:
        codes_of_neon(layer, block, tile, 8, y, dot_dotprod);
    }
}

const struct qsdk_linear_groups_set qsdk_linear_groups_dotprod = {
    .name = "dotprod",
    .rows = QSDK_ROWS_NEON,
    .largest = qsdk_linear_groups_largest_neon,
    .code = qsdk_linear_groups_code_neon,
    .codes = codes_dotprod,
    .floats = qsdk_linear_groups_floats_neon,
};
#endif
