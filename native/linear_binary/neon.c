/* One iteration: 64 places of eight rows of one plane against each plane of the input. Lanes are
 * rows; bytes count the misses, for 31 words at most before they are added up. Limited by three
 * operations (xor, count, add) for 128 places. */
#include "linear_binary.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

enum { ROWS = 8, VECTORS = ROWS / 2, FLUSH = 31 };

/* Misses of one plane of the weight, four rows to a vector. w: [word][part][8 rows]. */
static inline __attribute__((always_inline)) void
misses_neon(const uint8_t *w, int parts, const uint64_t *x, int bits, size_t words,
            int32x4_t misses[][VECTORS / 2])
{
    uint32x4_t sum[QSDK_BINARY_BITS][VECTORS];
    for (int j = 0; j < bits; j++)
        for (int s = 0; s < VECTORS; s++)
            sum[j][s] = vdupq_n_u32(0);
    for (size_t start = 0; start < words; start += FLUSH) {
        const size_t end = words - start < FLUSH ? words : start + FLUSH;
        uint8x16_t bytes[QSDK_BINARY_BITS][VECTORS];
        QSDK_UNROLL
        for (int j = 0; j < bits; j++)
            QSDK_UNROLL
            for (int s = 0; s < VECTORS; s++)
                bytes[j][s] = vdupq_n_u8(0);
        for (size_t word = start; word < end; word++, w += parts * 8 * ROWS, x += bits)
            QSDK_UNROLL
            for (int s = 0; s < VECTORS; s++) {
                const uint8x16_t plus = vld1q_u8(w + 16 * s);
                QSDK_UNROLL
                for (int j = 0; j < bits; j++) {
                    const uint8x16_t in = vreinterpretq_u8_u64(vdupq_n_u64(x[j]));
                    /* ternary: where the input is +1, the digits that are -1 miss */
                    const uint8x16_t miss =
                        parts == 1 ? veorq_u8(plus, in)
                                   : vbslq_u8(in, vld1q_u8(w + 8 * ROWS + 16 * s), plus);
                    bytes[j][s] = vaddq_u8(bytes[j][s], vcntq_u8(miss));
                }
            }
        QSDK_UNROLL
        for (int j = 0; j < bits; j++)
            QSDK_UNROLL
            for (int s = 0; s < VECTORS; s++)
                sum[j][s] = vpadalq_u16(sum[j][s], vpaddlq_u8(bytes[j][s]));
    }
    for (int j = 0; j < bits; j++)
        for (int s = 0; s < VECTORS / 2; s++)
            misses[j][s] = vreinterpretq_s32_u32(vpaddq_u32(sum[j][2 * s], sum[j][2 * s + 1]));
}

static inline __attribute__((always_inline)) void
block_neon(const qsdk_linear_binary *layer, size_t block, int parts, int bits, const uint64_t *x,
           const float *beta, float *y)
{
    const size_t words = qsdk_binary_words_portable(layer);
    const size_t groups = qsdk_binary_groups_portable(layer);
    const size_t planes = (size_t)layer->planes, chunk = (size_t)parts * 8 * ROWS;
    int32x4_t misses[QSDK_BINARY_BITS][VECTORS / 2];
    float32x4_t sum[2] = {vdupq_n_f32(0), vdupq_n_f32(0)};
    for (size_t g = 0; g < groups; g++) {
        float32x4_t part[2] = {vdupq_n_f32(0), vdupq_n_f32(0)};
        size_t first, last;
        qsdk_binary_group_portable(layer, g, &first, &last);
        for (size_t i = 0; i < planes; i++) {
            const size_t at = ((block * groups + g) * planes + i) * ROWS;
            misses_neon(layer->weights + ((block * planes + i) * words + first) * chunk, parts,
                        x + first * (size_t)bits, bits, last - first, misses);
            for (int s = 0; s < 2; s++) {
                int32x4_t places = vdupq_n_s32(qsdk_binary_places_portable(layer, g));
                float32x4_t t = vdupq_n_f32(0);
                if (parts == 2)
                    places = vld1q_s32(layer->places + at + 4 * s);
                for (int j = 0; j < bits; j++) {
                    const int32x4_t twice = vshlq_n_s32(misses[j][s], 1);
                    const float32x4_t dot = vcvtq_f32_s32(vsubq_s32(places, twice));
                    t = vaddq_f32(t, vmulq_f32(vdupq_n_f32(beta[j]), dot));
                }
                t = vmulq_f32(vld1q_f32(layer->alpha + at + 4 * s), t);
                part[s] = vaddq_f32(part[s], t);
            }
        }
        for (int s = 0; s < 2; s++)
            sum[s] = vaddq_f32(sum[s], part[s]);
    }
    for (int s = 0; s < 2; s++)
        vst1q_f32(y + 4 * s, sum[s]);
}

static inline __attribute__((always_inline)) void
blocks_neon(const qsdk_linear_binary *layer, size_t first, size_t count, int parts, int bits,
            const uint64_t *x, const float *beta, float *y)
{
    for (size_t block = first; block < first + count; block++) {
        const size_t row = block * ROWS, here = layer->rows - row < ROWS ? layer->rows - row : ROWS;
        float out[ROWS];
        block_neon(layer, block, parts, bits, x, beta, out);
        memcpy(y + row, out, here * sizeof *out);
    }
}

#define CASE(parts, bits)                                                                          \
    case 4 * (parts) + (bits):                                                                     \
        blocks_neon(layer, first, count, parts, bits, input, beta, y);                             \
        break

static void rows_neon(const qsdk_linear_binary *layer, size_t first, size_t count, const void *input,
                      const float *beta, float *y)
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

const struct qsdk_linear_binary_set qsdk_linear_binary_neon = {
    .name = "neon",
    .lane_bytes = 8,
    .lanes = 1,
    .apart = 1,
    .block_rows = ROWS,
    .float_block_rows = ROWS,
    .coder = &qsdk_sign_codes_neon,
    .rows = rows_neon,
    .float_rows = qsdk_binary_float_rows_portable, /* nothing faster yet */
};

#endif
