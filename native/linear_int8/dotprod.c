/* ARMv8.2: sdot adds 16 products to 4 sums. One step of the largest product: 4 loads of 4 outputs,
 * 6 broadcasts of 4 codes, 24 sdot, which limit it. */
#include "linear_int8_set.h"

#ifdef QSDK_LINEAR_INT8_NEW_ARM
#define LINEAR_INT8_VECTORS
#include "linear_int8_neon.h"
#include "linear_int8_table.h"

#define SET(name) name##_dotprod
#define TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#define ROWS 6
#define WIDE 1

typedef ints_t sums_t;

OPERATION sums_t none_dotprod(void) { return vdupq_n_s32(0); }
OPERATION ints_t total_dotprod(sums_t acc) { return acc; }

static inline __attribute__((always_inline)) TARGET sums_t dot_dotprod(sums_t acc, ints_t codes,
                                                                       ints_t weights)
{
    return vdotq_s32(acc, vreinterpretq_s8_s32(weights), vreinterpretq_s8_s32(codes));
}

#include "linear_int8_loops.h"

TABLE(dotprod, ANY, 1, 4, 60);
#endif
