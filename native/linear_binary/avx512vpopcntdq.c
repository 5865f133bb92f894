/* One iteration: 128 places of 32 rows of one plane against each plane of the input. Lanes are rows,
 * so that nothing is ever summed across lanes. Five operations for 1024 places: limited by these
 * where the weights are in a cache near enough, by reading them where not. */
#include "avx512.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vpopcntdq")))

enum { ROWS = 32, VECTORS = ROWS / 8, AHEAD = 8192 };

/* Misses of binary digits, `vectors` of a block's from the first on. A full adder takes the ones that
 * were left over and what two words miss, a and b: its sum is left over, and only its carries, worth
 * two, are counted. Words come in pairs, the second as the xor of both, in the weight and in the
 * input: so is the sum of the adder one operation of three inputs, without b. Where it differs from
 * the ones left over a and b differ, and the carry is these ones; else it is a. */
TARGET static inline __attribute__((always_inline)) void
pairs_avx512vpopcntdq(const uint64_t *w, const uint64_t *x, int bits, size_t words, int vectors,
                      __m512i misses[][VECTORS])
{
    __m512i ones[QSDK_BINARY_BITS][VECTORS];
    QSDK_UNROLL
    for (int j = 0; j < bits; j++)
        QSDK_UNROLL
        for (int s = 0; s < vectors; s++)
            misses[j][s] = ones[j][s] = _mm512_setzero_si512();
    for (size_t pair = 0; pair < words / 2; pair++, w += 2 * ROWS, x += 2 * bits) {
        QSDK_UNROLL
        for (int line = 0; line < 2 * VECTORS; line++)
            _mm_prefetch((const char *)w + AHEAD + 64 * line, _MM_HINT_T0);
        __m512i in[2 * QSDK_BINARY_BITS];
        QSDK_UNROLL
        for (int j = 0; j < 2 * bits; j++)
            in[j] = _mm512_set1_epi64((long long)x[j]);
        QSDK_UNROLL
        for (int s = 0; s < vectors; s++) {
            const __m512i first = _mm512_loadu_si512(w + 8 * s);
            const __m512i both = _mm512_loadu_si512(w + ROWS + 8 * s);
            QSDK_UNROLL
            for (int j = 0; j < bits; j++) {
                const __m512i a = _mm512_xor_si512(first, in[j]);
                const __m512i sum =
                    _mm512_ternarylogic_epi64(in[bits + j], both, ones[j][s], 0x96);
                const __m512i carry = _mm512_ternarylogic_epi64(ones[j][s], sum, a, 0xb2);
                misses[j][s] = _mm512_add_epi64(misses[j][s], _mm512_popcnt_epi64(carry));
                ones[j][s] = sum;
            }
        }
    }
    QSDK_UNROLL
    for (int j = 0; j < bits; j++)
        QSDK_UNROLL
        for (int s = 0; s < vectors; s++) {
            misses[j][s] = _mm512_add_epi64(_mm512_slli_epi64(misses[j][s], 1),
                                            _mm512_popcnt_epi64(ones[j][s]));
            if (words % 2) {
                const __m512i in = _mm512_set1_epi64((long long)x[j]);
                const __m512i miss = _mm512_xor_si512(_mm512_loadu_si512(w + 8 * s), in);
                misses[j][s] = _mm512_add_epi64(misses[j][s], _mm512_popcnt_epi64(miss));
            }
        }
}

/* Misses of ternary digits: where the input is +1 the digits that are -1, else those that are +1.
 * w: [word][part][32 rows]; x: [word][bits]. */
TARGET static inline __attribute__((always_inline)) void
ternary_avx512vpopcntdq(const uint64_t *w, const uint64_t *x, int bits, size_t words,
                        __m512i misses[][VECTORS])
{
    QSDK_UNROLL
    for (int j = 0; j < bits; j++)
        QSDK_UNROLL
        for (int s = 0; s < VECTORS; s++)
            misses[j][s] = _mm512_setzero_si512();
    for (size_t word = 0; word < words; word++, w += 2 * ROWS, x += bits) {
        QSDK_UNROLL
        for (int line = 0; line < 2 * VECTORS; line++)
            _mm_prefetch((const char *)w + AHEAD + 64 * line, _MM_HINT_T0);
        QSDK_UNROLL
        for (int s = 0; s < VECTORS; s++) {
            const __m512i plus = _mm512_loadu_si512(w + 8 * s);
            const __m512i minus = _mm512_loadu_si512(w + ROWS + 8 * s);
            QSDK_UNROLL
            for (int j = 0; j < bits; j++) {
                const __m512i in = _mm512_set1_epi64((long long)x[j]);
                const __m512i miss = _mm512_ternarylogic_epi64(in, minus, plus, 0xca);
                misses[j][s] = _mm512_add_epi64(misses[j][s], _mm512_popcnt_epi64(miss));
            }
        }
    }
}

/* Misses of one plane of the weight. The state of four planes of input has no room in the registers
 * for all rows at once. */
TARGET static inline __attribute__((always_inline)) void
misses_avx512vpopcntdq(const uint64_t *w, int parts, const uint64_t *x, int bits, size_t words,
                       __m512i misses[][VECTORS])
{
    if (parts == 2) {
        ternary_avx512vpopcntdq(w, x, bits, words, misses);
        return;
    }
    if (bits < 4) {
        pairs_avx512vpopcntdq(w, x, bits, words, VECTORS, misses);
        return;
    }
    for (int first = 0; first < VECTORS; first += VECTORS / 2) {
        __m512i half[QSDK_BINARY_BITS][VECTORS];
        pairs_avx512vpopcntdq(w + 8 * first, x, bits, words, VECTORS / 2, half);
        QSDK_UNROLL
        for (int j = 0; j < bits; j++)
            QSDK_UNROLL
            for (int s = 0; s < VECTORS / 2; s++)
                misses[j][first + s] = half[j][s];
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
    .pairs = 1,
    .block_rows = ROWS,
    .float_block_rows = QSDK_BINARY_FLOAT_ROWS_AVX512,
    .residual = qsdk_binary_residual_avx512,
    .above = qsdk_binary_above_avx512,
    .code = qsdk_binary_code_avx512,
    .rows = rows_avx512vpopcntdq,
    .float_rows = qsdk_binary_float_rows_avx512,
};

#endif
