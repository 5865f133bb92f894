/* One step of the largest product: 4 loads of 16 outputs, 6 broadcasts of 4 codes, 24 vpdpbusd with
 * 64 products each, which limit it: two results of 256 bits per cycle on Zen 4, of 512 on Intel. */
#include "linear_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx512.h"
#include "linear_int8_table.h"

#define SET(name) name##_avx512vnni
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vnni")))
#define ROWS 6
#define WIDE 4

typedef ints_t sums_t;

OPERATION sums_t none_avx512vnni(void) { return _mm512_setzero_si512(); }
OPERATION ints_t total_avx512vnni(sums_t acc) { return acc; }

static inline __attribute__((always_inline)) TARGET sums_t dot_avx512vnni(sums_t acc, ints_t codes,
                                                                          ints_t weights)
{
    return VEC(keep)(_mm512_dpbusd_epi32(acc, codes, weights));
}

#include "linear_int8_loops.h"

TABLE(avx512vnni, ANY, 0, 4, 150);
#endif
