/* Packing, once per layer: nothing here is in a hurry. */
#include "linear_int8_set.h"

static const struct qsdk_linear_int8_set *const sets[] = {
    &qsdk_linear_int8_portable,
#if defined(__x86_64__) && defined(__GNUC__)
    &qsdk_linear_int8_avx2,        &qsdk_linear_int8_avx2_pairs,
    &qsdk_linear_int8_avx512bw,    &qsdk_linear_int8_avx512bw_pairs,
    &qsdk_linear_int8_avx512vnni,
#endif
#ifdef QSDK_LINEAR_INT8_NEW_X86
    &qsdk_linear_int8_avxvnni,     &qsdk_linear_int8_amx,
#endif
#if defined(__aarch64__) && defined(__GNUC__)
    &qsdk_linear_int8_neon,        &qsdk_linear_int8_neon_pairs,
#endif
#ifdef QSDK_LINEAR_INT8_NEW_ARM
    &qsdk_linear_int8_dotprod,     &qsdk_linear_int8_i8mm,
#endif
};

const struct qsdk_linear_int8_set *qsdk_linear_int8_find(const char *set)
{
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (strcmp(sets[i]->name, set) == 0)
            return sets[i];
    return NULL;
}

static size_t tiles_portable(size_t inputs)
{
    return (inputs + QSDK_LINEAR_INT8_DEPTH - 1) / QSDK_LINEAR_INT8_DEPTH;
}

static size_t blocks_portable(size_t outputs)
{
    return (outputs + QSDK_LINEAR_INT8_LANES - 1) / QSDK_LINEAR_INT8_LANES;
}

size_t qsdk_linear_int8_packed_bytes(size_t inputs, size_t outputs)
{
    return blocks_portable(outputs) * tiles_portable(inputs) * 16 * QSDK_LINEAR_INT8_DEPTH;
}

void qsdk_linear_int8_pack(const struct qsdk_linear_int8 *layer, const int8_t *codes,
                           uint8_t *weights, int32_t *sums, int32_t *start)
{
    const size_t inputs = layer->inputs, padded = 16 * blocks_portable(layer->outputs);
    const int is_made = layer->input == QSDK_LINEAR_INT8_ROWS && !layer->input_signed;
    const int32_t zero = layer->input_zero + 128 * (layer->input_signed - layer->set->is_signed);
    memset(weights, 0, qsdk_linear_int8_packed_bytes(inputs, layer->outputs));
    for (size_t n = 0; n < padded; n++) {
        uint8_t *block = weights + n / 16 * tiles_portable(inputs) * 1024 + 4 * (n % 16);
        uint32_t sum = 0;
        if (n < layer->outputs)
            for (size_t k = 0; k < inputs; k++) {
                const int32_t code = codes[n * inputs + k];
                block[k / 4 * 64 + k % 4] = (uint8_t)code;
                sum += (uint32_t)code;
            }
        sums[n] = (int32_t)sum;
        start[n] = is_made ? 0 : (int32_t)(0u - (uint32_t)zero * sum);
    }
}

/* Bytes 0..255 times the two add up to what 16 bits hold, whatever the bytes are. */
static int pair_fits_portable(int a, int b)
{
    const int above = (a > 0 ? a : 0) + (b > 0 ? b : 0);
    const int below = (a < 0 ? a : 0) + (b < 0 ? b : 0);
    return 255 * above <= INT16_MAX && 255 * below >= INT16_MIN;
}

int qsdk_linear_int8_fits(const struct qsdk_linear_int8_set *set, const int8_t *codes,
                          size_t outputs, size_t inputs)
{
    int fits = 1;
    for (size_t n = 0; n < outputs && fits; n++, codes += inputs)
        for (size_t k = 0; k < inputs; k++)
            if (set->room == QSDK_LINEAR_INT8_NARROW)
                fits &= codes[k] != INT8_MIN;
            else if (set->room == QSDK_LINEAR_INT8_PAIRS && k % 2 == 0)
                fits &= pair_fits_portable(codes[k], k + 1 < inputs ? codes[k + 1] : 0);
    return fits;
}
