/* Per step 32 places by one multiplication and one floor each, then 32 increments into four tables:
 * the increments, about one a cycle, are what it costs. Zeros, of which there may be many, have eight
 * places in each table, each met once a step. */
#include "histogram.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))

/* A negative value may round to -0 when scaled, and would leave its bin; nothing that is so small
 * reaches another bin when it is made larger, up to half a bin. */
TARGET static inline __m512i places_avx512(const float *x, __m512 factor, __m512i bins,
                                           __m512i zeros_place)
{
    const __m512 zero = _mm512_setzero_ps(), values = _mm512_loadu_ps(x);
    __m512 place = _mm512_mul_ps(values, factor);
    const __mmask16 negative = _mm512_cmp_ps_mask(values, zero, _CMP_LT_OQ);
    place = _mm512_mask_min_ps(place, negative, place, _mm512_set1_ps(-0.5f));
    const __m512i floored = _mm512_cvt_roundps_epi32(place, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    const __mmask16 is_zero = _mm512_cmp_ps_mask(values, zero, _CMP_EQ_OQ);
    return _mm512_mask_mov_epi32(_mm512_add_epi32(floored, bins), is_zero, zeros_place);
}

TARGET void qsdk_count_avx512(const float *x, size_t n, const struct qsdk_bins *bins,
                              uint32_t *tables, size_t ahead)
{
    const __m512 factors = _mm512_set1_ps(bins->factor);
    const __m512i middle = _mm512_set1_epi32(bins->bins);
    const __m512i first = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
    const __m512i low = _mm512_add_epi32(first, _mm512_set1_epi32(2 * bins->bins));
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(4));
    const size_t width = 2 * (size_t)bins->bins + QSDK_ZERO_PLACES;
    const size_t vectors = bins->factor > 0 ? n - n % 32 : 0;
    uint32_t *const a = tables, *const b = a + width, *const c = b + width, *const d = c + width;
    uint64_t pair[16]; /* of places: half as many loads */
    for (size_t i = 0; i < vectors; i += 32) {
        __builtin_prefetch(x + i + ahead);
        __builtin_prefetch(x + i + ahead + 16);
        _mm512_storeu_si512(pair, places_avx512(x + i, factors, middle, low));
        _mm512_storeu_si512(pair + 8, places_avx512(x + i + 16, factors, middle, high));
        for (int j = 0; j < 16; j += 2) {
            a[(uint32_t)pair[j]]++;
            b[pair[j] >> 32]++;
            c[(uint32_t)pair[j + 1]]++;
            d[pair[j + 1] >> 32]++;
        }
    }
    qsdk_count_portable(x + vectors, n - vectors, bins, tables, 0);
}
#endif
