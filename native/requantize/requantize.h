/* A multiplier of 31 bits and a shift, ready for use. */
#ifndef QSDK_REQUANTIZE_H
#define QSDK_REQUANTIZE_H

#include <stdint.h>

/* round(acc * multiplier) = (acc * mantissa + half) >> right, in 64 bits. */
struct qsdk_multiplier {
    int32_t mantissa;
    int right; /* 1 to 62 */
    int64_t half;
};

static inline struct qsdk_multiplier qsdk_multiplier_portable(int32_t mantissa, int32_t shift)
{
    const int right = shift > 30 ? 1 : shift < -31 ? 62 : 31 - shift;
    const struct qsdk_multiplier multiplier = {shift < -31 ? 0 : mantissa, right,
                                               (int64_t)1 << (right - 1)};
    return multiplier;
}

#endif
