/* AVX2, exact for all weights: bytes widen to 16 bits, even and odd ones apart, and
 * vpmaddwd adds the products of two in 32 bits. Four operations for 32 products limit it. */
#include "linear_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx2.h"
#include "linear_int8_table.h"

#define SET(name) name##_avx2
#define TARGET __attribute__((target("avx2")))
#define ROWS 4
#define WIDE 1

typedef ints_t sums_t;

OPERATION sums_t none_avx2(void) { return _mm256_setzero_si256(); }
OPERATION ints_t total_avx2(sums_t acc) { return acc; }

OPERATION sums_t dot_avx2(sums_t acc, ints_t codes, ints_t weights)
{
    const ints_t low = _mm256_and_si256(codes, _mm256_set1_epi16(0xff));
    const ints_t high = _mm256_srli_epi16(codes, 8);
    const ints_t even = _mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8);
    const ints_t odd = _mm256_srai_epi16(weights, 8);
    const ints_t sum = _mm256_add_epi32(acc, _mm256_madd_epi16(low, even));
    return VEC(keep)(_mm256_add_epi32(sum, _mm256_madd_epi16(high, odd)));
}

#include "linear_int8_loops.h"
#include "linear_int8_rows.h"

TABLE(avx2, ANY, 0, 4, 35);
#endif
