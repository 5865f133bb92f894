/* AVX-512 without VNNI, for weights of which no two neighbours can saturate 16 bits: vpmaddubsw,
 * then vpmaddwd with ones and an addition. Three operations for 64 products limit it. */
#include "linear_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx512.h"
#include "linear_int8_table.h"

#define SET(name) name##_pairs_avx512bw
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq")))
#define ROWS 6
#define WIDE 4

typedef ints_t sums_t;

OPERATION sums_t none_pairs_avx512bw(void) { return _mm512_setzero_si512(); }
OPERATION ints_t total_pairs_avx512bw(sums_t acc) { return acc; }

OPERATION sums_t dot_pairs_avx512bw(sums_t acc, ints_t codes, ints_t weights)
{
    const ints_t pairs = _mm512_maddubs_epi16(codes, weights);
    return VEC(keep)(_mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1))));
}

#include "linear_int8_loops.h"

TABLE(avx512bw_pairs, PAIRS, 0, 4, 80);
#endif
