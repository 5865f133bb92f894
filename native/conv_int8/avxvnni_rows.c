/* AVX-VNNI, by row: 16 results at a time. A pair of weights takes two loads and two vpdpwssd; loads
 * limit it. */
#include "conv_int8_set.h"

#if defined(__x86_64__) && (__GNUC__ >= 11 || defined(__clang__))
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"

#define TARGET __attribute__((target("avx2,avxvnni")))
#define SET(name) name##_avxvnni

TARGET static inline __attribute__((always_inline)) ints_t dot_avxvnni(ints_t acc, ints_t codes,
                                                                       ints_t weights)
{
    return _mm256_dpwssd_avx_epi32(acc, codes, weights);
}

#include "conv_int8_rows_avx2.h"
#include "conv_int8_rows.h"
#endif
