/* Per step 32 places by one multiplication and one floor each, then 32 increments into four tables:
 * the increments, about one a cycle, are what it costs. Zeros, of which there may be many, have eight
 * places in each table, each met once a step. */
#include "histogram.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))

/* A negative value may round to -0 when scaled, and would leave its bin; nothing that is so small
 * reaches another bin when it is made larger, up to half a bin. */
TARGET static inline __m256i places_avx2(const float *x, __m256 factor, __m256i bins,
                                         __m256i zeros_place)
{
    const __m256 zero = _mm256_setzero_ps(), values = _mm256_loadu_ps(x);
    const __m256 product = _mm256_mul_ps(values, factor);
    const __m256 low = _mm256_min_ps(product, _mm256_set1_ps(-0.5f));
    const __m256 place = _mm256_blendv_ps(product, low, _mm256_cmp_ps(values, zero, _CMP_LT_OQ));
    const __m256i floored = _mm256_cvttps_epi32(_mm256_floor_ps(place));
    const __m256 is_zero = _mm256_cmp_ps(values, zero, _CMP_EQ_OQ);
    const __m256i index = _mm256_add_epi32(floored, bins);
    return _mm256_blendv_epi8(index, zeros_place, _mm256_castps_si256(is_zero));
}

TARGET void qsdk_count_avx2(const float *x, size_t n, const struct qsdk_bins *bins,
                            uint32_t *tables, size_t ahead)
{
    const __m256 factors = _mm256_set1_ps(bins->factor);
    const __m256i middle = _mm256_set1_epi32(bins->bins);
    const __m256i first = _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1); /* of the places of zeros */
    const size_t width = 2 * (size_t)bins->bins + QSDK_ZERO_PLACES;
    const size_t vectors = bins->factor > 0 ? n - n % 32 : 0;
    uint32_t *const a = tables, *const b = a + width, *const c = b + width, *const d = c + width;
    uint64_t pair[16]; /* of places: half as many loads */
    for (size_t i = 0; i < vectors; i += 32) {
        __builtin_prefetch(x + i + ahead);
        __builtin_prefetch(x + i + ahead + 16);
        for (int j = 0; j < 32; j += 8) {
            const __m256i zeros = _mm256_add_epi32(first, _mm256_set1_epi32(2 * bins->bins + j / 4));
            const __m256i index = places_avx2(x + i + j, factors, middle, zeros);
            _mm256_storeu_si256((__m256i *)(void *)(pair + j / 2), index);
        }
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
