/* Which function each instruction set has; where it has none of its own, the next best. */
#include "arrays.h"

static const struct qsdk_arrays sets[] = {
#ifdef QSDK_X86_ARRAYS
    {
        .name = "avx512",
        .features = "avx512f avx512bw avx512vl avx512dq avx512vbmi",
        .pack = qsdk_pack_avx512,
        .unpack = qsdk_unpack_avx512,
        .range_rows = qsdk_range_rows_avx512,
        .quantize_rows = qsdk_quantize_rows_avx512,
        .dequantize_rows = qsdk_dequantize_rows_avx512,
        .requantize_rows = qsdk_requantize_rows_avx512,
        .squared_error_rows = qsdk_squared_error_rows_avx512,
        .squant = qsdk_squant_avx512,
        .count = qsdk_count_avx512,
    },
    {
        .name = "avx2",
        .features = "avx2",
        .pack = qsdk_pack_avx2,
        .unpack = qsdk_unpack_avx2,
        .range_rows = qsdk_range_rows_avx2,
        .quantize_rows = qsdk_quantize_rows_avx2,
        .dequantize_rows = qsdk_dequantize_rows_avx2,
        .requantize_rows = qsdk_requantize_rows_avx2,
        .squared_error_rows = qsdk_squared_error_rows_avx2,
        .squant = qsdk_squant_avx2,
        .count = qsdk_count_avx2,
    },
#endif
#ifdef QSDK_NEON_ARRAYS
    {
        .name = "neon",
        .features = "neon",
        .pack = qsdk_pack_neon,
        .unpack = qsdk_unpack_neon,
        .range_rows = qsdk_range_rows_neon,
        .quantize_rows = qsdk_quantize_rows_neon,
        .dequantize_rows = qsdk_dequantize_rows_neon,
        .requantize_rows = qsdk_requantize_rows_neon,
        .squared_error_rows = qsdk_squared_error_rows_neon,
        .squant = qsdk_squant_portable, /* nothing faster yet */
        .count = qsdk_count_neon,
    },
#endif
    {
        .name = "portable",
        .features = "",
        .pack = qsdk_pack_portable,
        .unpack = qsdk_unpack_portable,
        .range_rows = qsdk_range_rows_portable,
        .quantize_rows = qsdk_quantize_rows_portable,
        .dequantize_rows = qsdk_dequantize_rows_portable,
        .requantize_rows = qsdk_requantize_rows_portable,
        .squared_error_rows = qsdk_squared_error_rows_portable,
        .squant = qsdk_squant_portable,
        .count = qsdk_count_portable,
    },
};

const struct qsdk_arrays *qsdk_arrays(uint32_t i)
{
    return i < sizeof sets / sizeof *sets ? &sets[i] : NULL;
}
