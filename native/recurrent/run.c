/* The steps of a sequence: products of the input for some steps at once, then step by step the
 * product of the hidden state and the gates. Limited by the weights that each step reads anew. */
#include "recurrent.h"

#include <string.h>

enum { ROWS = 128, ALIGNMENT = 64 };

const struct qsdk_recurrent_set *qsdk_recurrent_set(uint32_t i)
{
    static const struct qsdk_recurrent_set *const sets[] = {
#if defined(__x86_64__) && defined(__GNUC__)
        &qsdk_recurrent_avx512,
        &qsdk_recurrent_avx2,
#elif defined(__aarch64__) && defined(__GNUC__)
        &qsdk_recurrent_neon,
#endif
        &qsdk_recurrent_portable,
    };
    return i < sizeof sets / sizeof *sets ? sets[i] : NULL;
}

/* Steps whose inputs are multiplied at once. */
static size_t steps_portable(size_t steps, size_t batch)
{
    const size_t most = batch < ROWS ? ROWS / (batch ? batch : 1) : 1;
    return steps < most ? steps : most;
}

size_t qsdk_recurrent_rows(size_t steps, size_t batch)
{
    return steps_portable(steps, batch) * batch;
}

/* Parts of the scratch, in floats, each beginning at a cache line. */
struct parts {
    size_t inputs, products, reset;
};

static struct parts parts_portable(const qsdk_recurrent *layer, size_t steps, size_t batch)
{
    const size_t line = ALIGNMENT / sizeof(float), hidden = layer->hidden;
    const size_t first = layer->states[0].width;
    const size_t second = layer->kind == QSDK_GRU ? layer->states[1].width : 0;
    const struct parts floats = {
        qsdk_recurrent_rows(steps, batch) * layer->inputs.width,
        batch * (first > second ? first : second),
        layer->kind == QSDK_GRU ? batch * hidden : 0,
    };
    return (struct parts){
        (floats.inputs + line - 1) / line * line,
        (floats.products + line - 1) / line * line,
        (floats.reset + line - 1) / line * line,
    };
}

size_t qsdk_recurrent_scratch(const qsdk_recurrent *layer, size_t steps, size_t batch)
{
    const struct parts floats = parts_portable(layer, steps, batch);
    return (floats.inputs + floats.products + floats.reset) * sizeof(float);
}

/* One step of the batch. */
struct step {
    const qsdk_recurrent *layer;
    size_t batch, t;
    const int64_t *lengths;
    float *inputs, *products, *reset, *h, *c, *y;
    void *scratch;
    int threads;
};

static int goes_on_portable(const struct step *step, size_t b)
{
    return !step->lengths || (int64_t)step->t < step->lengths[b];
}

static void product_portable(const struct step *step, int number, const float *x)
{
    const qsdk_recurrent_product *product = &step->layer->states[number];
    product->run(product->layer, x, step->batch, step->products, step->scratch, step->threads);
}

/* What the gates of one row take, in nanoseconds. */
static double nanoseconds_portable(const struct step *step)
{
    return 3.0 * (double)step->layer->hidden * (double)step->batch;
}

/* z takes the place of its inputs. */
static void reset_portable(const struct step *step)
{
    const qsdk_recurrent *layer = step->layer;
    const size_t hidden = layer->hidden;
    const long rows = (long)step->batch;
    const int threads = qsdk_threads_portable(step->threads, nanoseconds_portable(step));
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        const size_t b = (size_t)row;
        float *inputs = step->inputs + b * layer->inputs.width + layer->inputs.start;
        const float *products = step->products + b * layer->states[0].width + layer->states[0].start;
        layer->set->gru_reset(inputs, products, hidden, layer->clip, step->h + b * hidden, inputs,
                              step->reset + b * hidden);
    }
}

static void row_portable(const struct step *step, size_t b)
{
    const qsdk_recurrent *layer = step->layer;
    const qsdk_recurrent_product *state = &layer->states[layer->kind == QSDK_GRU];
    const size_t hidden = layer->hidden;
    float *inputs = step->inputs + b * layer->inputs.width + layer->inputs.start;
    const float *products = step->products + b * state->width + state->start;
    float *h = step->h + b * hidden;
    if (layer->kind == QSDK_LSTM)
        layer->set->lstm(inputs, products, hidden, layer->clip, h, step->c + b * hidden);
    else if (layer->kind == QSDK_GRU)
        layer->set->gru_new(inputs + 2 * hidden, products, inputs, hidden, layer->clip, h);
    else { /* z takes the place of its inputs, r times the last product that of r's */
        layer->set->gru_reset(inputs, products, hidden, layer->clip, products + 2 * hidden, inputs,
                              inputs + hidden);
        layer->set->gru_new(inputs + 2 * hidden, inputs + hidden, inputs, hidden, layer->clip, h);
    }
}

static void step_portable(const struct step *step)
{
    const size_t hidden = step->layer->hidden;
    const long rows = (long)step->batch;
    const int threads = qsdk_threads_portable(step->threads, nanoseconds_portable(step));
    product_portable(step, 0, step->h);
    if (step->layer->kind == QSDK_GRU) {
        reset_portable(step);
        product_portable(step, 1, step->reset);
    }
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long row = 0; row < rows; row++) {
        const size_t b = (size_t)row;
        const int goes_on = goes_on_portable(step, b);
        if (goes_on)
            row_portable(step, b);
        if (step->y && goes_on)
            memcpy(step->y + b * hidden, step->h + b * hidden, hidden * sizeof(float));
        else if (step->y)
            memset(step->y + b * hidden, 0, hidden * sizeof(float));
    }
}

void qsdk_recurrent_run(const qsdk_recurrent *layer, const void *x, size_t x_bytes, size_t steps,
                        size_t batch, const int64_t *lengths, float *h, float *c, float *y,
                        size_t y_step, void *scratch, int threads)
{
    const struct parts floats = parts_portable(layer, steps, batch);
    const size_t most = steps_portable(steps, batch), width = layer->inputs.width;
    float *inputs = scratch, *products = inputs + floats.inputs;
    float *reset = products + floats.products;
    struct step step = {layer, batch, 0, lengths, inputs, products, reset,
                        h, c, NULL, reset + floats.reset, threads};
    for (size_t done = 0, here; batch && done < steps; done += here) {
        here = steps - done < most ? steps - done : most;
        const size_t first = layer->backwards ? steps - done - here : done;
        layer->inputs.run(layer->inputs.layer, (const char *)x + first * batch * x_bytes,
                          here * batch, inputs, step.scratch, threads);
        for (size_t i = 0; i < here; i++) {
            const size_t at = layer->backwards ? here - 1 - i : i;
            step.t = first + at;
            step.inputs = inputs + at * batch * width;
            step.y = y ? y + step.t * y_step : NULL;
            step_portable(&step);
        }
    }
}
