/* What is done to rows before and after the product, for every kind of vector, written once: the
 * division limits coding, reading and writing the rest. Tails go through a buffer of LANES values.
 * A file defines TARGET, VEC(name) and LANES as linear_int8_loops.h says. */
#ifdef VEC

TARGET static inline floats_t VEC(tail)(const float *x, size_t n)
{
    float part[LANES] = {0};
    memcpy(part, x, n * sizeof *x);
    return VEC(load_floats)(part);
}

TARGET uint32_t VEC(qsdk_linear_int8_size)(const float *x, size_t n)
{
    ints_t most[4] = {VEC(all)(0), VEC(all)(0), VEC(all)(0), VEC(all)(0)};
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            most[j] = VEC(larger)(most[j], VEC(magnitude)(VEC(load_floats)(x + i + j * LANES)));
    for (; i + LANES <= n; i += LANES)
        most[0] = VEC(larger)(most[0], VEC(magnitude)(VEC(load_floats)(x + i)));
    most[1] = VEC(larger)(most[1], VEC(magnitude)(VEC(tail)(x + i, n - i)));
    return (uint32_t)VEC(largest_of)(
        VEC(larger)(VEC(larger)(most[0], most[1]), VEC(larger)(most[2], most[3])));
}

TARGET void VEC(qsdk_linear_int8_range)(const float *x, size_t n, float *low, float *high)
{
    const floats_t none = VEC(all_floats)(0);
    floats_t least[4] = {none, none, none, none}, most[4] = {none, none, none, none};
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            const floats_t value = VEC(load_floats)(x + i + j * LANES);
            least[j] = VEC(least)(least[j], value);
            most[j] = VEC(most)(most[j], value);
        }
    for (; i < n; i += LANES) {
        const floats_t value = i + LANES <= n ? VEC(load_floats)(x + i) : VEC(tail)(x + i, n - i);
        least[0] = VEC(least)(least[0], value);
        most[0] = VEC(most)(most[0], value);
    }
    *low = VEC(least_of)(VEC(least)(VEC(least)(least[0], least[1]), VEC(least)(least[2], least[3])));
    *high = VEC(most_of)(VEC(most)(VEC(most)(most[0], most[1]), VEC(most)(most[2], most[3])));
}

/* Steps by the reciprocal, for scales far from the ends of float32: within 2^-14 of the quotient on
 * the grid, 1.5 units in the last place of at most 256, so that they round alike but near halves;
 * `near` gets the largest distance from an integer. */
TARGET static inline ints_t VEC(quick)(floats_t value, floats_t inverse, floats_t low,
                                       floats_t high, ints_t *near)
{
    const floats_t steps = VEC(multiply_floats)(value, inverse); /* most(a, NaN) is a */
    const floats_t held = VEC(least)(VEC(most)(steps, low), high);
    const ints_t whole = VEC(nearest)(held);
    *near = VEC(larger)(*near, VEC(magnitude)(VEC(minus_floats)(held, VEC(to_floats)(whole))));
    return whole;
}

TARGET static inline ints_t VEC(exact)(floats_t value, floats_t scale, floats_t low, floats_t high)
{
    const floats_t steps = VEC(divide)(value, scale);
    return VEC(nearest)(VEC(least)(VEC(most)(steps, low), high));
}

TARGET void VEC(qsdk_linear_int8_code)(const float *x, size_t n, float scale, int low, int high,
                                       int zero, uint8_t *out)
{
    const floats_t divisor = VEC(all_floats)(scale), inverse = VEC(all_floats)(1 / scale);
    const floats_t lowest = VEC(all_floats)((float)low), highest = VEC(all_floats)((float)high);
    const ints_t add = VEC(all)(zero), halves = VEC(magnitude)(VEC(all_floats)(0.5f - 0x1p-14f));
    const int is_quick = scale > 0x1p-100f && scale < 0x1p100f;
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        ints_t steps[4], near = VEC(all)(0);
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++)
            steps[j] = VEC(quick)(VEC(load_floats)(x + i + j * LANES), inverse, lowest, highest, &near);
        if (!is_quick || VEC(any_above)(near, halves))
            for (size_t j = 0; j < 4; j++)
                steps[j] = VEC(exact)(VEC(load_floats)(x + i + j * LANES), divisor, lowest, highest);
        VEC(store_packed)(out + i, VEC(add)(steps[0], add), VEC(add)(steps[1], add),
                          VEC(add)(steps[2], add), VEC(add)(steps[3], add));
    }
    for (; i < n; i += LANES) {
        const floats_t value = i + LANES <= n ? VEC(load_floats)(x + i) : VEC(tail)(x + i, n - i);
        VEC(store_bytes)(out + i, VEC(add)(VEC(exact)(value, divisor, lowest, highest), add));
    }
}

TARGET void VEC(qsdk_linear_int8_correct)(const struct qsdk_linear_int8 *layer, size_t first,
                                          size_t count, const struct qsdk_linear_int8_row *row,
                                          int32_t *acc)
{
    const ints_t zero = VEC(all)(row->zero), steps = VEC(all)(row->steps);
    for (size_t i = 0; i < count; i += LANES) {
        const ints_t sums = VEC(times)(zero, VEC(load_ints)(layer->sums + first + i));
        VEC(store_ints)(acc + i, VEC(minus)(VEC(load_ints)(acc + i), sums));
    }
    for (size_t i = 0; i < count && layer->has_zeros; i += LANES) {
        const ints_t zeros = VEC(times)(steps, VEC(load_ints)(layer->zeros + first + i));
        VEC(store_ints)(acc + i, VEC(minus)(VEC(load_ints)(acc + i), zeros));
    }
}

TARGET void VEC(qsdk_linear_int8_to_float)(const struct qsdk_linear_int8 *layer, size_t first,
                                           size_t count, const int32_t *acc, float scale, float *y)
{
    const floats_t scale_x = VEC(all_floats)(scale);
    const floats_t low = VEC(all_floats)(layer->low), high = VEC(all_floats)(layer->high);
    for (size_t i = 0; i < count; i += LANES) {
        const floats_t scales = VEC(multiply_floats)(scale_x, VEC(load_floats)(layer->scale + first + i));
        const floats_t product = VEC(multiply_floats)(VEC(to_floats)(VEC(load_ints)(acc + i)), scales);
        const floats_t sum = VEC(add_floats)(product, VEC(load_floats)(layer->bias + first + i));
        const floats_t held = VEC(least)(high, VEC(most)(low, sum)); /* NaN stays: the second */
        if (i + LANES <= count) {
            VEC(store_floats)(y + i, held);
        } else {
            float part[LANES];
            VEC(store_floats)(part, held);
            memcpy(y + i, part, (count - i) * sizeof *y);
        }
    }
}

TARGET void VEC(qsdk_linear_int8_to_codes)(const struct qsdk_linear_int8 *layer, size_t first,
                                           size_t count, const int32_t *acc, uint8_t *y)
{
    const ints_t zero = VEC(all)(layer->output_zero);
    const int low = layer->output_low - layer->output_zero;
    const int high = layer->output_high - layer->output_zero;
    for (size_t i = 0; i < count; i += LANES) {
        const ints_t steps = VEC(requantize)(acc + i, layer->mantissa + first + i,
                                             layer->addend + first + i, layer->right + first + i,
                                             low, high);
        uint8_t part[LANES];
        VEC(store_bytes)(part, VEC(add)(steps, zero));
        memcpy(y + i, part, count - i < LANES ? count - i : LANES);
    }
}

#endif
