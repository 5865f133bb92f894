/* AVX2, for weights of which no two neighbours can saturate 16 bits: vpmaddubsw,
 * then vpmaddwd with ones and an addition. Three operations for 32 products limit it. */
#include "linear_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"
#include "linear_int8_table.h"

#define SET(name) name##_pairs_avx2
#define TARGET __attribute__((target("avx2")))
#define ROWS 4
#define WIDE 1

typedef ints_t sums_t;

OPERATION sums_t none_pairs_avx2(void) { return _mm256_setzero_si256(); }
OPERATION ints_t total_pairs_avx2(sums_t acc) { return acc; }

OPERATION sums_t dot_pairs_avx2(sums_t acc, ints_t codes, ints_t weights)
{
    const ints_t pairs = _mm256_maddubs_epi16(codes, weights);
    return VEC(keep)(_mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
}

#include "linear_int8_loops.h"

TABLE(avx2_pairs, PAIRS, 0, 4, 60);
#endif
