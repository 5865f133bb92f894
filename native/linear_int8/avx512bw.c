/* AVX-512 without VNNI, exact for all weights: bytes widen to 16 bits, even and odd ones apart, and
 * vpmaddwd adds the products of two in 32 bits. Four operations for 64 products limit it. */
#include "linear_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx512.h"
#include "linear_int8_table.h"

#define SET(name) name##_avx512bw
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq")))
#define ROWS 4
#define WIDE 4

typedef ints_t sums_t;

OPERATION sums_t none_avx512bw(void) { return _mm512_setzero_si512(); }
OPERATION ints_t total_avx512bw(sums_t acc) { return acc; }

OPERATION sums_t dot_avx512bw(sums_t acc, ints_t codes, ints_t weights)
{
    const ints_t low = _mm512_and_si512(codes, _mm512_set1_epi16(0xff));
    const ints_t high = _mm512_srli_epi16(codes, 8);
    const ints_t even = _mm512_srai_epi16(_mm512_slli_epi16(weights, 8), 8);
    const ints_t odd = _mm512_srai_epi16(weights, 8);
    const ints_t sum = _mm512_add_epi32(acc, _mm512_madd_epi16(low, even));
    return VEC(keep)(_mm512_add_epi32(sum, _mm512_madd_epi16(high, odd)));
}

#include "linear_int8_loops.h"
#include "linear_int8_rows.h"

TABLE(avx512bw, ANY, 0, 4, 60);
#endif
