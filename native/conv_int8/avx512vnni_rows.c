/* AVX-512 with VNNI, by row: 32 results at a time. A pair of weights takes two loads and two vpdpwssd;
 * most loads cross two cache lines, and limit it. */
#include "conv_int8_set.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define LINEAR_INT8_VECTORS
#include "linear_int8_avx512.h"

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")))
#define SET(name) name##_avx512vnni
#define STEP TARGET static inline __attribute__((always_inline))

STEP void widen_avx512vnni(int16_t *to, const uint8_t *codes, const int16_t *kept, int32_t zero)
{
    const __m256i wide =
        _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)codes));
    const __mmask16 some =
        _mm256_movepi16_mask(_mm256_loadu_si256((const __m256i *)(const void *)kept));
    _mm256_storeu_si256((__m256i *)(void *)to,
                        _mm256_mask_mov_epi16(_mm256_set1_epi16((int16_t)zero), some, wide));
}

STEP void store_some_avx512vnni(float *y, floats_t values, size_t n)
{
    _mm512_mask_storeu_ps(y, (__mmask16)((1u << n) - 1), values);
}

STEP ints_t codes_avx512vnni(const int16_t *x, size_t apart, int is_narrow)
{
    if (!is_narrow)
        return _mm512_loadu_si512(x);
    const __m256i first = _mm256_loadu_si256((const __m256i *)(const void *)x);
    const __m256i second = _mm256_loadu_si256((const __m256i *)(const void *)(x + apart));
    return _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
}

STEP void pair_avx512vnni(ints_t *acc, const int16_t *x, size_t apart, int is_narrow, size_t stride,
                          ints_t weights, int is_one)
{
    (void)is_one; /* no less work */
    if (stride == 2) {
        acc[0] = _mm512_dpwssd_epi32(acc[0], _mm512_loadu_si512(x), weights);
        acc[1] = _mm512_dpwssd_epi32(acc[1], _mm512_loadu_si512(x + apart), weights);
    } else {
        acc[0] = _mm512_dpwssd_epi32(acc[0], codes_avx512vnni(x, apart, is_narrow), weights);
        acc[1] = _mm512_dpwssd_epi32(acc[1], codes_avx512vnni(x + 1, apart, is_narrow), weights);
    }
}

/* Even and odd results become neighbours. */
STEP void order_avx512vnni(ints_t *acc, size_t stride)
{
    if (stride == 2)
        return;
    const __m512i low =
        _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high =
        _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    const __m512i even = acc[0], odd = acc[1];
    acc[0] = _mm512_permutex2var_epi32(even, low, odd);
    acc[1] = _mm512_permutex2var_epi32(even, high, odd);
}

#include "conv_int8_rows.h"
#endif
