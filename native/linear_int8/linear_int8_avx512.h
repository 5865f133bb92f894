/* The vectors of AVX-512: names for what linear_int8_loops.h and linear_int8_rows.h do with them. */
#if defined(LINEAR_INT8_VECTORS) && defined(__x86_64__)
#include <immintrin.h>

#define LANES 16
#define VEC(name) name##_avx512
#define OPERATION \
    static inline __attribute__((always_inline, unused, target("avx512f,avx512bw,avx512dq")))

typedef __m512i ints_t;
typedef __m512 floats_t;

OPERATION ints_t load_avx512(const void *p) { return _mm512_loadu_si512(p); }
OPERATION ints_t load_ints_avx512(const int32_t *p) { return _mm512_loadu_si512(p); }
OPERATION void store_ints_avx512(int32_t *p, ints_t a) { _mm512_storeu_si512(p, a); }
OPERATION floats_t load_floats_avx512(const float *p) { return _mm512_loadu_ps(p); }
OPERATION void store_floats_avx512(float *p, floats_t a) { _mm512_storeu_ps(p, a); }
OPERATION ints_t all_avx512(int32_t a) { return _mm512_set1_epi32(a); }
OPERATION floats_t all_floats_avx512(float a) { return _mm512_set1_ps(a); }

OPERATION ints_t repeat_avx512(const uint8_t *codes)
{
    int32_t four;
    memcpy(&four, codes, sizeof four);
    return _mm512_set1_epi32(four);
}

OPERATION ints_t add_avx512(ints_t a, ints_t b) { return _mm512_add_epi32(a, b); }
OPERATION ints_t minus_avx512(ints_t a, ints_t b) { return _mm512_sub_epi32(a, b); }
OPERATION ints_t times_avx512(ints_t a, ints_t b) { return _mm512_mullo_epi32(a, b); }
/* The same register before and after: gcc otherwise copies accumulators in every step. */
OPERATION ints_t keep_avx512(ints_t a)
{
    __asm__("" : "+v"(a));
    return a;
}

OPERATION ints_t larger_avx512(ints_t a, ints_t b) { return _mm512_max_epi32(a, b); }

OPERATION ints_t magnitude_avx512(floats_t a)
{
    return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff));
}

/* Of least and most the second operand is the result where either is NaN, or both are zeros. */
OPERATION floats_t least_avx512(floats_t a, floats_t b) { return _mm512_min_ps(a, b); }
OPERATION floats_t most_avx512(floats_t a, floats_t b) { return _mm512_max_ps(a, b); }
OPERATION floats_t divide_avx512(floats_t a, floats_t b) { return _mm512_div_ps(a, b); }
OPERATION floats_t multiply_floats_avx512(floats_t a, floats_t b) { return _mm512_mul_ps(a, b); }
OPERATION floats_t add_floats_avx512(floats_t a, floats_t b) { return _mm512_add_ps(a, b); }
OPERATION floats_t to_floats_avx512(ints_t a) { return _mm512_cvtepi32_ps(a); }
OPERATION ints_t nearest_avx512(floats_t a) { return _mm512_cvtps_epi32(a); }

OPERATION int32_t largest_of_avx512(ints_t a) { return _mm512_reduce_max_epi32(a); }
OPERATION float least_of_avx512(floats_t a) { return _mm512_reduce_min_ps(a); }
OPERATION float most_of_avx512(floats_t a) { return _mm512_reduce_max_ps(a); }
/* What is left after rounding, if its magnitude is larger than `far`. */
OPERATION floats_t farther_avx512(floats_t far, floats_t a)
{
    return _mm512_range_ps(far, _mm512_reduce_ps(a, _MM_FROUND_TO_NEAREST_INT), 0xb);
}

OPERATION int any_above_avx512(floats_t a, floats_t b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ) != 0;
}

/* Within what `nearest` converts; NaN and what lies below become INT_MIN, which packing saturates. */
OPERATION floats_t bounded_avx512(floats_t a, floats_t low, floats_t high)
{
    (void)low;
    return _mm512_min_ps(high, a);
}

/* 64 of steps + zero, held within 0..255. Packing works in quarters: the last step puts them in
 * order. */
OPERATION void store_packed_avx512(uint8_t *p, const ints_t *steps, int zero)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i zeros = _mm512_set1_epi16((int16_t)zero);
    const __m512i first = _mm512_adds_epi16(_mm512_packs_epi32(steps[0], steps[1]), zeros);
    const __m512i second = _mm512_adds_epi16(_mm512_packs_epi32(steps[2], steps[3]), zeros);
    _mm512_storeu_si512(p, _mm512_permutexvar_epi32(order, _mm512_packus_epi16(first, second)));
}

OPERATION void store_bytes_avx512(uint8_t *p, ints_t a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(a));
}

OPERATION __m256i requantize_half_avx512(const int32_t *acc, const int32_t *mantissa,
                                         const int64_t *addend, const int32_t *right)
{
    const __m512i a = _mm512_cvtepi32_epi64(_mm256_loadu_si256((const __m256i *)(const void *)acc));
    const __m512i m = _mm512_cvtepi32_epi64(_mm256_loadu_si256((const __m256i *)(const void *)mantissa));
    const __m512i r = _mm512_cvtepi32_epi64(_mm256_loadu_si256((const __m256i *)(const void *)right));
    const __m512i sum = _mm512_add_epi64(_mm512_mul_epi32(a, m), _mm512_loadu_si512(addend));
    return _mm512_cvtsepi64_epi32(_mm512_srav_epi64(sum, r)); /* saturates: clipped below */
}

OPERATION ints_t requantize_avx512(const int32_t *acc, const int32_t *mantissa,
                                   const int64_t *addend, const int32_t *right, int low, int high)
{
    const __m256i first = requantize_half_avx512(acc, mantissa, addend, right);
    const __m256i second = requantize_half_avx512(acc + 8, mantissa + 8, addend + 8, right + 8);
    const __m512i steps = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    return _mm512_min_epi32(_mm512_max_epi32(steps, _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
}
#endif
