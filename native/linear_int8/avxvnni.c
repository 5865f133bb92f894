/* VNNI in 256 bits (VEX), on CPUs without AVX-512: 2 loads of 8 outputs, 6 broadcasts of 4 codes,
 * 12 vpdpbusd with 32 products each, which limit it. */
#include "linear_int8_set.h"

#ifdef QSDK_LINEAR_INT8_NEW_X86
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"
#include "linear_int8_table.h"

#define SET(name) name##_avxvnni
#define TARGET __attribute__((target("avx2,avxvnni")))
#define ROWS 6
#define WIDE 1

typedef ints_t sums_t;

OPERATION sums_t none_avxvnni(void) { return _mm256_setzero_si256(); }
OPERATION ints_t total_avxvnni(sums_t acc) { return acc; }

static inline __attribute__((always_inline)) TARGET sums_t dot_avxvnni(sums_t acc, ints_t codes,
                                                                       ints_t weights)
{
    return VEC(keep)(_mm256_dpbusd_avx_epi32(acc, codes, weights));
}

#include "linear_int8_loops.h"

TABLE(avxvnni, ANY, 0, 4, 100);
#endif
