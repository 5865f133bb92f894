/* One iteration: 64 places of 32 rows of one plane against each plane of the input. Lanes are rows,
 * so that nothing is ever summed across lanes. Three operations (xor, count, add) for 512 places:
 * limited by these where the weights are in a cache near enough, by reading them where not. */
#include "avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vpopcntdq")))

enum { ROWS = 32, VECTORS = ROWS / 8, AHEAD = 8192 };

/* Misses of one plane of the weight. w: [word][part][32 rows]; x: [word][bits]. */
TARGET static inline __attribute__((always_inline)) void
misses_avx512vpopcntdq(const uint64_t *w, int parts, const uint64_t *x, int bits, size_t words,
                       __m512i misses[][VECTORS])
{
    QSDK_UNROLL
    for (int j = 0; j < bits; j++)
        QSDK_UNROLL
        for (int s = 0; s < VECTORS; s++)
            misses[j][s] = _mm512_setzero_si512();
    for (size_t word = 0; word < words; word++, w += parts * ROWS, x += bits) {
        QSDK_UNROLL
        for (int line = 0; line < parts * VECTORS; line++)
            _mm_prefetch((const char *)w + AHEAD + 64 * line, _MM_HINT_T0);
        QSDK_UNROLL
        for (int s = 0; s < VECTORS; s++) {
            const __m512i plus = _mm512_loadu_si512(w + 8 * s);
            const __m512i minus = parts == 1 ? plus : _mm512_loadu_si512(w + ROWS + 8 * s);
            QSDK_UNROLL
            for (int j = 0; j < bits; j++) {
                const __m512i in = _mm512_set1_epi64((long long)x[j]);
                /* ternary: where the input is +1 the digits that are -1 miss, else those +1 */
                const __m512i miss = parts == 1
                                         ? _mm512_xor_si512(plus, in)
                                         : _mm512_ternarylogic_epi64(in, minus, plus, 0xca);
                misses[j][s] = _mm512_add_epi64(misses[j][s], _mm512_popcnt_epi64(miss));
            }
        }
    }
}

/* Counts of 16 rows as integers of 32 bits: the layout puts every second row eight lanes on. */
TARGET static inline __m512i sixteen_avx512vpopcntdq(const __m512i *eight)
{
    return _mm512_or_si512(eight[0], _mm512_slli_epi64(eight[1], 32));
}

/* One group of one plane: adds alpha times t to part. */
TARGET static inline __attribute__((always_inline)) void
plane_avx512vpopcntdq(const uint64_t *w, const float *alpha, const int32_t *places, __m512i all,
                      int parts, int bits, const uint64_t *x, size_t words, const float *beta,
                      __m512 *part)
{
    __m512i misses[QSDK_BINARY_BITS][VECTORS];
    misses_avx512vpopcntdq(w, parts, x, bits, words, misses);
    QSDK_UNROLL
    for (int s = 0; s < VECTORS / 2; s++) {
        const __m512i of = parts == 2 ? _mm512_loadu_si512(places + 16 * s) : all;
        __m512 t = _mm512_setzero_ps();
        QSDK_UNROLL
        for (int j = 0; j < bits; j++) {
            const __m512i twice = _mm512_slli_epi32(sixteen_avx512vpopcntdq(misses[j] + 2 * s), 1);
            const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(of, twice));
            t = _mm512_add_ps(t, _mm512_mul_ps(_mm512_set1_ps(beta[j]), dot));
        }
        t = _mm512_mul_ps(_mm512_loadu_ps(alpha + 16 * s), t);
        part[s] = _mm512_add_ps(part[s], t);
    }
}

TARGET static inline __attribute__((always_inline)) void
block_avx512vpopcntdq(const qsdk_linear_binary *layer, size_t block, size_t words, size_t groups,
                      int parts, int bits, const uint64_t *x, const float *beta, float *y)
{
    const size_t planes = (size_t)layer->planes, chunk = (size_t)parts * ROWS;
    const size_t first_plane = block * planes;
    const uint64_t *weights = (const uint64_t *)(const void *)layer->weights;
    __m512 sum[VECTORS / 2], part[VECTORS / 2];
    for (int s = 0; s < VECTORS / 2; s++)
        sum[s] = _mm512_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        const __m512i all = _mm512_set1_epi32(qsdk_binary_places_portable(layer, g));
        for (int s = 0; s < VECTORS / 2; s++)
            part[s] = _mm512_setzero_ps();
        for (size_t i = 0; i < planes; i++) {
            const size_t at = ((block * groups + g) * planes + i) * ROWS;
            plane_avx512vpopcntdq(weights + ((first_plane + i) * words + first) * chunk,
                                  layer->alpha + at, parts == 2 ? layer->places + at : NULL, all,
                                  parts, bits, x + first * (size_t)bits, last - first, beta, part);
        }
        for (int s = 0; s < VECTORS / 2; s++)
            sum[s] = _mm512_add_ps(sum[s], part[s]);
    }
    for (int s = 0; s < VECTORS / 2; s++)
        _mm512_storeu_ps(y + 16 * s, sum[s]);
}

TARGET static inline __attribute__((always_inline)) void
blocks_avx512vpopcntdq(const qsdk_linear_binary *layer, size_t first, size_t count, int parts,
                       int bits, const uint64_t *x, const float *beta, float *y)
{
    const size_t words = qsdk_binary_words_portable(layer);
    const size_t groups = qsdk_binary_groups_portable(layer);
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, left = layer->rows - row;
        float out[ROWS];
        float *to = left < ROWS ? out : y + row;
        block_avx512vpopcntdq(layer, block, words, groups, parts, bits, x, beta, to);
        if (left < ROWS)
            memcpy(y + row, out, left * sizeof *out);
    }
}

#define CASE(parts, bits)                                                                          \
    case 4 * (parts) + (bits):                                                                     \
        blocks_avx512vpopcntdq(layer, first, count, parts, bits, input, beta, y);                  \
        break

TARGET static void rows_avx512vpopcntdq(const qsdk_linear_binary *layer, size_t first, size_t count,
                                        const void *input, const float *beta, float *y)
{
    switch (4 * layer->parts + layer->bits) {
        CASE(1, 1);
        CASE(1, 2);
        CASE(1, 3);
        CASE(1, 4);
        CASE(2, 1);
        CASE(2, 2);
        CASE(2, 3);
        CASE(2, 4);
    }
}

const struct qsdk_linear_binary_set qsdk_linear_binary_avx512vpopcntdq = {
    .name = "avx512vpopcntdq",
    .lane_bytes = 8,
    .lanes = 2,
    .apart = 8,
    .block_rows = ROWS,
    .float_block_rows = QSDK_BINARY_FLOAT_ROWS_AVX512,
    .coder = &qsdk_sign_codes_avx512bw,
    .rows = rows_avx512vpopcntdq,
    .float_rows = qsdk_binary_float_rows_avx512,
};

#endif
