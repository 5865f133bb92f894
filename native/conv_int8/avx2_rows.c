/* AVX2, by row: 16 results at a time. A pair of weights takes two loads, two vpmaddwd and two
 * additions; loads and multiplications limit it alike. */
#include "conv_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"

#define TARGET __attribute__((target("avx2")))
#define SET(name) name##_avx2

OPERATION ints_t dot_avx2(ints_t acc, ints_t codes, ints_t weights)
{
    return VEC(keep)(_mm256_add_epi32(acc, _mm256_madd_epi16(codes, weights)));
}

#include "conv_int8_rows_avx2.h"
#include "conv_int8_rows.h"
#endif
