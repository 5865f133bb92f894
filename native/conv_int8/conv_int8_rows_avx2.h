/* What conv_int8_rows.h asks for, in vectors of AVX2. A file gives SET(dot)(acc, codes, weights), which
 * adds the products of pairs. */
#if defined(SET) && defined(__x86_64__)
#define STEP TARGET static inline __attribute__((always_inline))

STEP void SET(widen)(int16_t *to, const uint8_t *codes, const int16_t *kept, int32_t zero)
{
    const __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)codes);
    const __m256i padding = _mm256_set1_epi16((int16_t)zero);
    _mm256_storeu_si256((__m256i *)(void *)to, _mm256_blendv_epi8(
        padding, _mm256_cvtepu8_epi16(bytes), _mm256_loadu_si256((const __m256i *)(const void *)kept)));
}

STEP void SET(store_some)(float *y, floats_t values, size_t n)
{
    const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_ps(y, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lanes), values);
}

STEP ints_t SET(codes)(const int16_t *x, size_t apart, int is_narrow)
{
    if (!is_narrow)
        return VEC(load)(x);
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)x)),
        _mm_loadu_si128((const __m128i *)(const void *)(x + apart)), 1);
}

STEP void SET(pair)(ints_t *acc, const int16_t *x, size_t apart, int is_narrow, size_t stride,
                         ints_t weights, int is_one)
{
    (void)is_one; /* no less work */
    if (stride == 2) {
        acc[0] = SET(dot)(acc[0], VEC(load)(x), weights);
        acc[1] = SET(dot)(acc[1], VEC(load)(x + apart), weights);
    } else {
        acc[0] = SET(dot)(acc[0], SET(codes)(x, apart, is_narrow), weights);
        acc[1] = SET(dot)(acc[1], SET(codes)(x + 1, apart, is_narrow), weights);
    }
}

/* Even and odd results become neighbours. */
STEP void SET(order)(ints_t *acc, size_t stride)
{
    if (stride == 2)
        return;
    const __m256i low = _mm256_unpacklo_epi32(acc[0], acc[1]);
    const __m256i high = _mm256_unpackhi_epi32(acc[0], acc[1]);
    acc[0] = _mm256_permute2x128_si256(low, high, 0x20);
    acc[1] = _mm256_permute2x128_si256(low, high, 0x31);
}
#endif
