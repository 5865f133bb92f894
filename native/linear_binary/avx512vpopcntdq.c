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
            QSDK_UNROLL
            for (int j = 0; j < bits; j++) {
                const __m512i in = _mm512_set1_epi64((long long)x[j]);
                /* ternary: where the input is +1, the digits that are -1 miss, else those that are +1 */
                const __m512i miss =
                    parts == 1 ? _mm512_xor_si512(plus, in)
                               : _mm512_ternarylogic_epi64(in, _mm512_loadu_si512(w + ROWS + 8 * s),
                                                           plus, 0xca);
                misses[j][s] = _mm512_add_epi64(misses[j][s], _mm512_popcnt_epi64(miss));
            }
        }
    }
}

TARGET static inline __attribute__((always_inline)) void
block_avx512vpopcntdq(const qsdk_linear_binary *layer, size_t block, int parts, int bits,
                      const uint64_t *x, const float *beta, float *y)
{
    const size_t words = qsdk_binary_words_portable(layer), groups = qsdk_binary_groups_portable(layer);
    const size_t planes = (size_t)layer->planes, chunk = (size_t)parts * ROWS;
    const uint64_t *weights = (const uint64_t *)(const void *)layer->weights;
    __m512i misses[QSDK_BINARY_BITS][VECTORS];
    __m256 sum[VECTORS], part[VECTORS];
    for (int s = 0; s < VECTORS; s++)
        sum[s] = _mm256_setzero_ps();
    for (size_t g = 0; g < groups; g++) {
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (int s = 0; s < VECTORS; s++)
            part[s] = _mm256_setzero_ps();
        const __m512i all = _mm512_set1_epi64(qsdk_binary_places_portable(layer, g));
        for (size_t i = 0; i < planes; i++) {
            const size_t at = ((block * groups + g) * planes + i) * ROWS;
            misses_avx512vpopcntdq(weights + ((block * planes + i) * words + first) * chunk, parts,
                                   x + first * (size_t)bits, bits, last - first, misses);
            QSDK_UNROLL
            for (int s = 0; s < VECTORS; s++) {
                __m512i places = all;
                __m256 t = _mm256_setzero_ps();
                if (parts == 2)
                    places = _mm512_cvtepi32_epi64(_mm256_loadu_si256(
                        (const __m256i *)(const void *)(layer->places + at + 8 * s)));
                QSDK_UNROLL
                for (int j = 0; j < bits; j++) {
                    const __m512i twice = _mm512_slli_epi64(misses[j][s], 1);
                    const __m256 dot = _mm512_cvtepi64_ps(_mm512_sub_epi64(places, twice));
                    t = _mm256_add_ps(t, _mm256_mul_ps(_mm256_set1_ps(beta[j]), dot));
                }
                t = _mm256_mul_ps(_mm256_loadu_ps(layer->alpha + at + 8 * s), t);
                part[s] = _mm256_add_ps(part[s], t);
            }
        }
        QSDK_UNROLL
        for (int s = 0; s < VECTORS; s++)
            sum[s] = _mm256_add_ps(sum[s], part[s]);
    }
    QSDK_UNROLL
    for (int s = 0; s < VECTORS; s++)
        _mm256_storeu_ps(y + 8 * s, sum[s]);
}

TARGET static inline __attribute__((always_inline)) void
blocks_avx512vpopcntdq(const qsdk_linear_binary *layer, size_t first, size_t count, int parts,
                       int bits, const uint64_t *x, const float *beta, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS;
        if (layer->rows - row >= ROWS) {
            block_avx512vpopcntdq(layer, block, parts, bits, x, beta, y + row);
            continue;
        }
        float out[ROWS];
        block_avx512vpopcntdq(layer, block, parts, bits, x, beta, out);
        memcpy(y + row, out, (layer->rows - row) * sizeof *out);
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
    .block_rows = ROWS,
    .float_block_rows = QSDK_BINARY_FLOAT_ROWS_AVX512,
    .residual = qsdk_binary_residual_avx512,
    .above = qsdk_binary_above_avx512,
    .code = qsdk_binary_code_avx512,
    .rows = rows_avx512vpopcntdq,
    .float_rows = qsdk_binary_float_rows_avx512,
};

#endif
