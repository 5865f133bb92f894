/* Recurrent layers as ONNX defines them: every step of a sequence in one call.
 *
 * Products with the weights are those of other layers, called as kernel.h says. Everything here is
 * float32, each operation rounded, none fused, so all instruction sets give the same bits.
 *
 *   lstm     (i, o, f, g) = held(inputs + products)
 *            c = sigmoid(f) * c + sigmoid(i) * tanh(g);   h = sigmoid(o) * tanh(c)
 *   gru      (z, r) = sigmoid(held(inputs + products))
 *            n = tanh(held(inputs + p)),  p the product of r * h, or (linear before reset) r times
 *            the last products;   h = (1 - z) * n + z * h
 *   held(x)  within -clip and clip; NaN stays.
 *
 *   e^-a     for a >= 0:  w = T - a * log2(e), T = 1.5 * 2^23;  n = w - T, a whole number
 *            r = (-a - n * L) - n * l,  L + l = ln 2;   m = r + r * r * q(r)
 *            e^-a = 2^n * (1 + m);  q by Horner's rule from its highest coefficient
 *   sigmoid  a = min(|x|, 104);  e = (m + 1) * 2^(n >> 1) * 2^(n - (n >> 1)), down to denormals
 *            (x < 0 ? e : 1) / (e + 1)
 *   tanh     a = min(|x|, 10);  n, m of 2 a;  t = m * 2^n + (2^n - 1)
 *            -t / (t + 2), with the sign of x
 * No float is further from either than 2.5 units in its last place, all 2^32 tried. */
#ifndef QSDK_RECURRENT_H
#define QSDK_RECURRENT_H

#include "kernel.h"

/* [cffi] */
enum { QSDK_LSTM, QSDK_GRU, QSDK_GRU_LINEAR_BEFORE_RESET };

/* On one row of the batch, `hidden` units: what is read and written may be the same, not overlap
 * otherwise. gru_reset writes z, and r times `of`; gru_new takes the last gate of inputs. */
struct qsdk_recurrent_set {
    const char *name;
    const char *features; /* what of qsdk_cpu_feature_name it needs, with spaces between */
    void (*sigmoid)(const float *x, size_t n, float *y);
    void (*tanh)(const float *x, size_t n, float *y);
    void (*lstm)(const float *inputs, const float *products, size_t hidden, float clip, float *h,
                 float *c);
    void (*gru_reset)(const float *inputs, const float *products, size_t hidden, float clip,
                      const float *of, float *z, float *reset);
    void (*gru_new)(const float *inputs, const float *product, const float *z, size_t hidden,
                    float clip, float *h);
};

/* The sets of this build, the fastest first, "portable" last; then NULL. */
const struct qsdk_recurrent_set *qsdk_recurrent_set(uint32_t i);

/* Results `start` .. of a layer of `width` results. */
typedef struct {
    qsdk_run *run;
    const void *layer;
    size_t start, width;
} qsdk_recurrent_product;

/* One direction of a layer.
 * inputs   all gates of x
 * states   of the hidden state; QSDK_GRU: z and r, then of r * h */
typedef struct {
    const struct qsdk_recurrent_set *set;
    int32_t kind, backwards;
    size_t hidden;
    float clip;
    qsdk_recurrent_product inputs, states[2];
} qsdk_recurrent;

/* Rows of x that the product of inputs is asked for at once, at most. */
size_t qsdk_recurrent_rows(size_t steps, size_t batch);

/* Bytes of scratch of a call before that of the products, a multiple of 64. */
size_t qsdk_recurrent_scratch(const qsdk_recurrent *layer, size_t steps, size_t batch);

/* x        [steps][batch], x_bytes each
 * lengths  [batch], steps of each sequence; NULL for all
 * h, c     [batch][hidden], before and after; c only of an LSTM
 * y        h after every step, [batch][hidden] every y_step floats, 0 behind the end; or NULL
 * scratch  as above, then the most that a product needs: that of inputs for qsdk_recurrent_rows,
 *          those of states for the batch; aligned to 64 */
void qsdk_recurrent_run(const qsdk_recurrent *layer, const void *x, size_t x_bytes, size_t steps,
                        size_t batch, const int64_t *lengths, float *h, float *c, float *y,
                        size_t y_step, void *scratch, int threads);
/* [/cffi] */

extern const struct qsdk_recurrent_set qsdk_recurrent_portable, qsdk_recurrent_avx2,
    qsdk_recurrent_avx512, qsdk_recurrent_neon;

#endif
