/* Plain C: what the other files of this folder must equal. One step of the product takes 4 inputs
 * of 16 outputs; the compiler's 16-bit multiplications limit it. */
#include "linear_int8_set.h"
#include "qsdk_native.h"

static void multiply_portable(const struct qsdk_linear_int8_block *block, int rows, int blocks)
{
    for (int r = 0; r < rows; r++)
        for (int b = 0; b < blocks; b++) {
            int32_t *acc = block->tile + 16 * (r * blocks + b);
            const uint8_t *a = block->codes + (size_t)r * block->stride;
            const uint8_t *w = block->weights + (size_t)b * block->apart;
            uint32_t sums[16]; /* modulo 2^32 on the way */
            for (int n = 0; n < 16; n++)
                sums[n] = (uint32_t)block->start[16 * b + n];
            for (size_t q = 0; q < block->quads; q++, a += 4, w += 64)
                for (int n = 0; n < 16; n++)
                    sums[n] += (uint32_t)(a[0] * (int8_t)w[4 * n] + a[1] * (int8_t)w[4 * n + 1] +
                                          a[2] * (int8_t)w[4 * n + 2] + a[3] * (int8_t)w[4 * n + 3]);
            for (int n = 0; n < 16; n++)
                acc[n] = (int32_t)sums[n];
        }
}

static uint32_t size_portable(const float *x, size_t n)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

static void range_portable(const float *x, size_t n, float *low, float *high)
{
    float least = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
    }
    *low = least, *high = most;
}

static void code_portable(const float *x, size_t n, float scale, int low, int high, int zero,
                          uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const float held = qsdk_clamp_portable(x[i] / scale, (float)low, (float)high);
        out[i] = (uint8_t)((int32_t)qsdk_round_portable(held) + zero);
    }
}

static void correct_portable(const struct qsdk_linear_int8 *layer,
                             const struct qsdk_linear_int8_tile *tile)
{
    const int32_t *sums = layer->sums + tile->first, *zeros = layer->zeros + tile->first;
    for (size_t r = 0; r < tile->rows; r++) {
        const uint32_t zero = (uint32_t)tile->row[r].zero, steps = (uint32_t)tile->row[r].steps;
        int32_t *acc = tile->acc + r * tile->pitch;
        for (size_t i = 0; i < tile->count; i++)
            acc[i] = (int32_t)((uint32_t)acc[i] - zero * (uint32_t)sums[i] -
                               steps * (uint32_t)zeros[i]);
    }
}

static void to_float_portable(const struct qsdk_linear_int8 *layer,
                              const struct qsdk_linear_int8_tile *tile)
{
    const float *scale = layer->scale + tile->first, *bias = layer->bias + tile->first;
    for (size_t r = 0; r < tile->rows; r++) {
        const int32_t *acc = tile->acc + r * tile->pitch;
        uint8_t *y = tile->y + r * layer->outputs * sizeof(float);
        for (size_t i = 0; i < tile->count; i++) {
            const float product = (float)acc[i] * (tile->row[r].scale * scale[i]);
            const float sum = product + bias[i];
            const float above = layer->low > sum ? layer->low : sum;
            const float value = layer->high < above ? layer->high : above;
            memcpy(y + i * sizeof value, &value, sizeof value);
        }
    }
}

static void to_codes_portable(const struct qsdk_linear_int8 *layer,
                              const struct qsdk_linear_int8_tile *tile)
{
    const int64_t low = layer->output_low - layer->output_zero;
    const int64_t high = layer->output_high - layer->output_zero;
    for (size_t r = 0; r < tile->rows; r++) {
        const int32_t *acc = tile->acc + r * tile->pitch;
        uint8_t *y = tile->y + r * layer->outputs;
        for (size_t i = 0; i < tile->count; i++) {
            const size_t n = tile->first + i;
            int64_t steps = (int64_t)acc[i] * layer->mantissa[n] + layer->addend[n];
            steps >>= layer->right[n];
            steps = steps < low ? low : steps > high ? high : steps;
            y[i] = (uint8_t)(steps + layer->output_zero);
        }
    }
}

const struct qsdk_linear_int8_set qsdk_linear_int8_portable = {
    .name = "portable",
    .rows = 4,
    .blocks = 4,
    .step = 4,
    .macs = 2,
    .multiply = multiply_portable,
    .size = size_portable,
    .range = range_portable,
    .code = code_portable,
    .correct = correct_portable,
    .to_float = to_float_portable,
    .to_codes = to_codes_portable,
};
