/* The functions of a set, written once. Whoever includes this says
 *
 *   SET       its name, with which every function ends
 *   LANES     floats of a vector; 1 for plain C
 *   TARGET    what stands before a function
 *   FEATURES  that the CPU must have
 *
 * and without SET there is nothing here.
 *
 * Per step LANES units; the last ones fill up with zeros. Limited by divisions, five for an LSTM,
 * and by the latency of Horner's rule. */
#ifdef SET
#include "recurrent.h"

#include <math.h>
#include <string.h>

#define JOINED_AS_IS(a, b) a##_##b
#define JOINED(a, b) JOINED_AS_IS(a, b)
#define NAME(function) JOINED(function, SET)

#if LANES == 1
typedef float floats;
typedef int32_t ints;
typedef uint32_t words;
#define BELOW(a, b) (-((a) < (b)))
#else
typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));
#define BELOW(a, b) ((ints)((a) < (b)))
#endif

#define SIGN UINT32_C(0x80000000)
#define TO_WHOLE 12582912.0f

TARGET static inline floats NAME(load)(const float *x, size_t n)
{
    floats v = {0};
    memcpy(&v, x, n * sizeof *x);
    return v;
}

TARGET static inline void NAME(store)(float *x, size_t n, floats v)
{
    memcpy(x, &v, n * sizeof *x);
}

TARGET static inline words NAME(bits)(floats v)
{
    words w;
    memcpy(&w, &v, sizeof w);
    return w;
}

TARGET static inline floats NAME(value)(words w)
{
    floats v;
    memcpy(&v, &w, sizeof v);
    return v;
}

/* a where mask is -1, b where it is 0. */
TARGET static inline floats NAME(either)(ints mask, floats a, floats b)
{
    const words w = (words)mask;
    return NAME(value)((w & NAME(bits)(a)) | (~w & NAME(bits)(b)));
}

TARGET static inline floats NAME(all)(float x)
{
    const floats zero = {0};
    return x - zero;
}

TARGET static inline floats NAME(at_most)(floats x, float limit)
{
    const floats most = NAME(all)(limit);
    return NAME(either)(BELOW(most, x), most, x);
}

TARGET static inline floats NAME(held)(floats x, float clip)
{
    const floats least = NAME(all)(-clip);
    if (!(clip < INFINITY))
        return x;
    return NAME(at_most)(NAME(either)(BELOW(x, least), least, x), clip);
}

TARGET static inline floats NAME(power_of_2)(words n)
{
    return NAME(value)((n + 127u) << 23);
}

/* e^-a = 2^n (1 + m) */
TARGET static inline floats NAME(reduced)(floats a, words *n)
{
    const floats whole = TO_WHOLE - a * 1.44269504f, back = whole - TO_WHOLE;
    const floats r = (-a - back * 0.693359375f) - back * -2.12194440e-4f;
    floats q = NAME(all)(0.00019899392f);
    q = q * r + 0.0013933734f;
    q = q * r + 0.008333298f;
    q = q * r + 0.041666463f;
    q = q * r + 0.16666667f;
    q = q * r + 0.5f;
    *n = NAME(bits)(whole) - NAME(bits)(NAME(all)(TO_WHOLE));
    return r + r * r * q;
}

TARGET static inline floats NAME(sigmoid_of)(floats x)
{
    const floats one = NAME(all)(1), zero = {0};
    words n;
    const floats a = NAME(value)(NAME(bits)(x) & ~SIGN);
    const floats m = NAME(reduced)(NAME(at_most)(a, 104), &n);
    const words half = (words)((ints)n >> 1);
    const floats e = (m + 1.0f) * NAME(power_of_2)(half) * NAME(power_of_2)(n - half);
    return NAME(either)(BELOW(x, zero), e, one) / (e + 1.0f);
}

TARGET static inline floats NAME(tanh_of)(floats x)
{
    words n;
    const floats a = NAME(at_most)(NAME(value)(NAME(bits)(x) & ~SIGN), 10);
    const floats m = NAME(reduced)(a + a, &n), power = NAME(power_of_2)(n);
    const floats t = m * power + (power - 1.0f), size = -t / (t + 2.0f);
    return NAME(value)((NAME(bits)(size) & ~SIGN) | (NAME(bits)(x) & SIGN));
}

TARGET static inline floats NAME(gate)(const float *inputs, const float *products, size_t n,
                                       float clip)
{
    return NAME(held)(NAME(load)(inputs, n) + NAME(load)(products, n), clip);
}

/* Calls step(n) on whole vectors, then on what is left. */
#define EACH(count, step)                                                                          \
    do {                                                                                           \
        size_t k = 0;                                                                              \
        for (; k + LANES <= (count); k += LANES)                                                   \
            step(k, LANES);                                                                        \
        if (k < (count))                                                                           \
            step(k, (count) - k);                                                                  \
    } while (0)

TARGET static void NAME(sigmoid)(const float *x, size_t count, float *y)
{
#define STEP(k, n) NAME(store)(y + (k), n, NAME(sigmoid_of)(NAME(load)(x + (k), n)))
    EACH(count, STEP);
#undef STEP
}

TARGET static void NAME(tanh)(const float *x, size_t count, float *y)
{
#define STEP(k, n) NAME(store)(y + (k), n, NAME(tanh_of)(NAME(load)(x + (k), n)))
    EACH(count, STEP);
#undef STEP
}

/* c, and the output gate in the place of h. */
TARGET static inline void NAME(cell_units)(const float *inputs, const float *products,
                                           size_t hidden, float clip, float *h, float *c, size_t n)
{
    const floats i = NAME(gate)(inputs, products, n, clip);
    const floats o = NAME(gate)(inputs + hidden, products + hidden, n, clip);
    const floats f = NAME(gate)(inputs + 2 * hidden, products + 2 * hidden, n, clip);
    const floats g = NAME(gate)(inputs + 3 * hidden, products + 3 * hidden, n, clip);
    const floats kept = NAME(sigmoid_of)(f) * NAME(load)(c, n);
    NAME(store)(c, n, kept + NAME(sigmoid_of)(i) * NAME(tanh_of)(g));
    NAME(store)(h, n, NAME(sigmoid_of)(o));
}

TARGET static inline void NAME(hidden_units)(float *h, const float *c, size_t n)
{
    NAME(store)(h, n, NAME(load)(h, n) * NAME(tanh_of)(NAME(load)(c, n)));
}

/* Twice over the units: in one pass tanh of c would wait for the gates, and all else for it. */
TARGET static void NAME(lstm)(const float *inputs, const float *products, size_t hidden, float clip,
                              float *h, float *c)
{
#define STEP(k, n)                                                                                 \
    NAME(cell_units)(inputs + (k), products + (k), hidden, clip, h + (k), c + (k), n)
    EACH(hidden, STEP);
#undef STEP
#define STEP(k, n) NAME(hidden_units)(h + (k), c + (k), n)
    EACH(hidden, STEP);
#undef STEP
}

TARGET static inline void NAME(reset_units)(const float *inputs, const float *products,
                                            size_t hidden, float clip, const float *of,
                                            float *z, float *reset, size_t n)
{
    const floats r = NAME(gate)(inputs + hidden, products + hidden, n, clip);
    const floats before = NAME(load)(of, n);
    NAME(store)(z, n, NAME(sigmoid_of)(NAME(gate)(inputs, products, n, clip)));
    NAME(store)(reset, n, NAME(sigmoid_of)(r) * before);
}

TARGET static void NAME(gru_reset)(const float *inputs, const float *products, size_t hidden,
                                   float clip, const float *of, float *z, float *reset)
{
#define STEP(k, n)                                                                                 \
    NAME(reset_units)(inputs + (k), products + (k), hidden, clip, of + (k), z + (k), reset + (k), n)
    EACH(hidden, STEP);
#undef STEP
}

TARGET static inline void NAME(new_units)(const float *inputs, const float *product, const float *z,
                                          float clip, float *h, size_t n)
{
    const floats candidate = NAME(tanh_of)(NAME(gate)(inputs, product, n, clip));
    const floats kept = NAME(load)(z, n);
    NAME(store)(h, n, (1.0f - kept) * candidate + kept * NAME(load)(h, n));
}

TARGET static void NAME(gru_new)(const float *inputs, const float *product, const float *z,
                                 size_t hidden, float clip, float *h)
{
#define STEP(k, n) NAME(new_units)(inputs + (k), product + (k), z + (k), clip, h + (k), n)
    EACH(hidden, STEP);
#undef STEP
}

#define QUOTED_AS_IS(x) #x
#define QUOTED(x) QUOTED_AS_IS(x)

const struct qsdk_recurrent_set NAME(qsdk_recurrent) = {
    .name = QUOTED(SET),
    .features = FEATURES,
    .sigmoid = NAME(sigmoid),
    .tanh = NAME(tanh),
    .lstm = NAME(lstm),
    .gru_reset = NAME(gru_reset),
    .gru_new = NAME(gru_new),
};

#endif
