/* Per step 32 places by one multiplication and one floor each, then 32 increments into four tables:
 * the increments, about one a cycle, are what it costs. Zeros, of which there may be many, have eight
 * places in each table, each met once a step. */
#include "histogram.h"

#if defined(__aarch64__) && defined(__GNUC__)
#include <arm_neon.h>

/* A negative value may round to -0 when scaled, and would leave its bin; nothing that is so small
 * reaches another bin when it is made larger, up to half a bin. */
static inline uint32x4_t places_neon(const float *x, float32x4_t factor, int32x4_t bins,
                                     uint32x4_t zeros_place)
{
    const float32x4_t values = vld1q_f32(x), product = vmulq_f32(values, factor);
    const float32x4_t low = vminq_f32(product, vdupq_n_f32(-0.5f));
    const float32x4_t place = vbslq_f32(vcltzq_f32(values), low, product);
    const int32x4_t index = vaddq_s32(vcvtmq_s32_f32(place), bins);
    return vbslq_u32(vceqzq_f32(values), zeros_place, vreinterpretq_u32_s32(index));
}

void qsdk_count_neon(const float *x, size_t n, const struct qsdk_bins *bins, uint32_t *tables,
                     size_t ahead)
{
    const float32x4_t factors = vdupq_n_f32(bins->factor);
    const int32x4_t middle = vdupq_n_s32(bins->bins);
    const uint32_t zeros_place = 2 * (uint32_t)bins->bins;
    const size_t width = zeros_place + QSDK_ZERO_PLACES;
    const size_t vectors = bins->factor > 0 ? n - n % 32 : 0;
    uint32_t *const a = tables, *const b = a + width, *const c = b + width, *const d = c + width;
    uint32_t index[32];
    for (size_t i = 0; i < vectors; i += 32) {
        __builtin_prefetch(x + i + ahead);
        __builtin_prefetch(x + i + ahead + 16);
        for (int j = 0; j < 32; j += 4) {
            const uint32x4_t zeros = vdupq_n_u32(zeros_place + (uint32_t)j / 4);
            vst1q_u32(index + j, places_neon(x + i + j, factors, middle, zeros));
        }
        for (int j = 0; j < 32; j += 4) {
            a[index[j]]++;
            b[index[j + 1]]++;
            c[index[j + 2]]++;
            d[index[j + 3]]++;
        }
    }
    qsdk_count_portable(x + vectors, n - vectors, bins, tables, 0);
}
#endif
