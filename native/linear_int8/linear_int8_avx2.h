/* The vectors of AVX2: names for what linear_int8_loops.h and linear_int8_rows.h do with them. */
#if defined(LINEAR_INT8_VECTORS) && defined(__x86_64__)
#include <immintrin.h>

#define LANES 8
#define VEC(name) name##_avx2
#define OPERATION static inline __attribute__((always_inline, unused, target("avx2")))

typedef __m256i ints_t;
typedef __m256 floats_t;

OPERATION ints_t load_avx2(const void *p) { return _mm256_loadu_si256(p); }
OPERATION ints_t load_ints_avx2(const int32_t *p) { return load_avx2(p); }
OPERATION void store_ints_avx2(int32_t *p, ints_t a) { _mm256_storeu_si256((void *)p, a); }
OPERATION floats_t load_floats_avx2(const float *p) { return _mm256_loadu_ps(p); }
OPERATION void store_floats_avx2(float *p, floats_t a) { _mm256_storeu_ps(p, a); }
OPERATION ints_t all_avx2(int32_t a) { return _mm256_set1_epi32(a); }
OPERATION floats_t all_floats_avx2(float a) { return _mm256_set1_ps(a); }

OPERATION ints_t repeat_avx2(const uint8_t *codes)
{
    int32_t four;
    memcpy(&four, codes, sizeof four);
    return _mm256_set1_epi32(four);
}

OPERATION ints_t add_avx2(ints_t a, ints_t b) { return _mm256_add_epi32(a, b); }
OPERATION ints_t minus_avx2(ints_t a, ints_t b) { return _mm256_sub_epi32(a, b); }
OPERATION ints_t times_avx2(ints_t a, ints_t b) { return _mm256_mullo_epi32(a, b); }
/* The same register before and after: gcc otherwise copies accumulators in every step. */
OPERATION ints_t keep_avx2(ints_t a)
{
    __asm__("" : "+x"(a));
    return a;
}

OPERATION ints_t larger_avx2(ints_t a, ints_t b) { return _mm256_max_epi32(a, b); }

OPERATION ints_t magnitude_avx2(floats_t a)
{
    return _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7fffffff));
}

/* Of least and most the second operand is the result where either is NaN, or both are zeros. */
OPERATION floats_t least_avx2(floats_t a, floats_t b) { return _mm256_min_ps(a, b); }
OPERATION floats_t most_avx2(floats_t a, floats_t b) { return _mm256_max_ps(a, b); }
OPERATION floats_t divide_avx2(floats_t a, floats_t b) { return _mm256_div_ps(a, b); }
OPERATION floats_t multiply_floats_avx2(floats_t a, floats_t b) { return _mm256_mul_ps(a, b); }
OPERATION floats_t add_floats_avx2(floats_t a, floats_t b) { return _mm256_add_ps(a, b); }
OPERATION floats_t to_floats_avx2(ints_t a) { return _mm256_cvtepi32_ps(a); }
OPERATION ints_t nearest_avx2(floats_t a) { return _mm256_cvtps_epi32(a); }

OPERATION int32_t largest_of_avx2(ints_t a)
{
    const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i two = _mm_max_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 0xb1)));
}

OPERATION float least_of_avx2(floats_t a)
{
    const __m128 four = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps(two, two, 1)));
}

OPERATION float most_of_avx2(floats_t a)
{
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* What is left after rounding, if its magnitude is larger than `far`. */
OPERATION floats_t farther_avx2(floats_t far, floats_t a)
{
    const __m256 whole = _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm256_max_ps(far, _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(a, whole)));
}

OPERATION int any_above_avx2(floats_t a, floats_t b)
{
    return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)) != 0;
}

/* Within what `nearest` converts; NaN and what lies below become INT_MIN, which packing saturates. */
OPERATION floats_t bounded_avx2(floats_t a, floats_t low, floats_t high)
{
    (void)low;
    return _mm256_min_ps(high, a);
}

/* 32 of steps + zero, held within 0..255. Packing works in halves: the last step puts them in
 * order. */
OPERATION void store_packed_avx2(uint8_t *p, const ints_t *steps, int zero)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i zeros = _mm256_set1_epi16((int16_t)zero);
    const __m256i first = _mm256_adds_epi16(_mm256_packs_epi32(steps[0], steps[1]), zeros);
    const __m256i second = _mm256_adds_epi16(_mm256_packs_epi32(steps[2], steps[3]), zeros);
    _mm256_storeu_si256((void *)p,
                        _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), order));
}

OPERATION void store_bytes_avx2(uint8_t *p, ints_t a)
{
    const __m256i low = _mm256_shuffle_epi8(
        a, _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 4, 8,
                            12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
    const int32_t first = _mm_cvtsi128_si32(_mm256_castsi256_si128(low));
    const int32_t second = _mm_cvtsi128_si32(_mm256_extracti128_si256(low, 1));
    memcpy(p, &first, 4);
    memcpy(p + 4, &second, 4);
}

/* Four of them as 64-bit integers within low..high. There is no arithmetic shift of 64 bits: the
 * sign is moved out of the way, by 2^63, and back. */
OPERATION ints_t requantize_four_avx2(__m128i acc, ints_t mantissa, ints_t addend, ints_t right,
                                      int low, int high)
{
    const ints_t product = _mm256_mul_epi32(_mm256_cvtepi32_epi64(acc), mantissa);
    const ints_t sum = _mm256_add_epi64(product, addend), sign = _mm256_set1_epi64x(INT64_MIN);
    const ints_t steps = _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_xor_si256(sum, sign), right),
                                          _mm256_srlv_epi64(sign, right));
    const ints_t lowest = _mm256_set1_epi64x(low), highest = _mm256_set1_epi64x(high);
    const ints_t above = _mm256_blendv_epi8(steps, lowest, _mm256_cmpgt_epi64(lowest, steps));
    return _mm256_blendv_epi8(above, highest, _mm256_cmpgt_epi64(above, highest));
}

/* The low halves of twice four. */
OPERATION ints_t join_avx2(ints_t first, ints_t second)
{
    const ints_t even = _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6);
    return _mm256_blend_epi32(_mm256_permutevar8x32_epi32(first, even),
                              _mm256_permutevar8x32_epi32(second, even), 0xf0);
}

OPERATION __m128i load_four_avx2(const int32_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

OPERATION ints_t requantize_avx2(const int32_t *acc, const int32_t *mantissa, const int64_t *addend,
                                 const int32_t *right, int low, int high)
{
    ints_t four[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++, acc += 4, mantissa += 4, addend += 4, right += 4)
        four[i] = requantize_four_avx2(load_four_avx2(acc),
                                       _mm256_cvtepi32_epi64(load_four_avx2(mantissa)),
                                       load_avx2(addend),
                                       _mm256_cvtepi32_epi64(load_four_avx2(right)), low, high);
    return join_avx2(four[0], four[1]);
}
#endif
