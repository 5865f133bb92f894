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
    for (; i < n; i += LANES) {
        const floats_t value = i + LANES <= n ? VEC(load_floats)(x + i) : VEC(tail)(x + i, n - i);
        most[0] = VEC(larger)(most[0], VEC(magnitude)(value));
    }
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

TARGET static inline ints_t VEC(exact)(floats_t value, floats_t scale, floats_t low, floats_t high)
{
    return VEC(nearest)(VEC(least)(VEC(most)(VEC(divide)(value, scale), low), high));
}

/* For scales far from the ends of float32 steps come from the reciprocal: of at most 256 steps they
 * are within 1.6 units in the last place, 2^-14, of the quotient, so both round alike but near a
 * half. Where a step is near one, and for other scales, the quotient decides. */
TARGET void VEC(qsdk_linear_int8_code)(const float *x, size_t n, float scale, int low, int high,
                                       int zero, uint8_t *out)
{
    const floats_t divisor = VEC(all_floats)(scale), inverse = VEC(all_floats)(1 / scale);
    const floats_t lowest = VEC(all_floats)((float)low), highest = VEC(all_floats)((float)high);
    const int is_quick = scale > 0x1p-100f && scale < 0x1p100f;
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        ints_t steps[4];
        floats_t far = VEC(all_floats)(0);
#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            const floats_t about = VEC(multiply_floats)(VEC(load_floats)(x + i + j * LANES), inverse);
            far = VEC(farther)(far, about);
            steps[j] = VEC(nearest)(VEC(bounded)(about, lowest, highest));
        }
        if (!is_quick || VEC(any_above)(far, VEC(all_floats)(0.5f - 0x1p-14f)))
            for (size_t j = 0; j < 4; j++)
                steps[j] = VEC(exact)(VEC(load_floats)(x + i + j * LANES), divisor, lowest, highest);
        VEC(store_packed)(out + i, steps, zero);
    }
    for (; i < n; i += LANES) {
        const floats_t value = i + LANES <= n ? VEC(load_floats)(x + i) : VEC(tail)(x + i, n - i);
        const ints_t steps = VEC(exact)(value, divisor, lowest, highest);
        VEC(store_bytes)(out + i, VEC(add)(steps, VEC(all)(zero)));
    }
}

TARGET void VEC(qsdk_linear_int8_correct)(const struct qsdk_linear_int8 *layer,
                                          const struct qsdk_linear_int8_tile *tile)
{
    for (size_t i = 0; i < tile->count; i += LANES) {
        const ints_t sums = VEC(load_ints)(layer->sums + tile->first + i);
        const ints_t zeros = VEC(load_ints)(layer->zeros + tile->first + i);
        int32_t *acc = tile->acc + i;
        for (size_t r = 0; r < tile->rows; r++, acc += tile->pitch) {
            const ints_t less = VEC(times)(VEC(all)(tile->row[r].zero), sums);
            VEC(store_ints)(acc, VEC(minus)(VEC(load_ints)(acc), less));
        }
        acc = tile->acc + i;
        for (size_t r = 0; r < tile->rows && layer->has_zeros; r++, acc += tile->pitch) {
            const ints_t less = VEC(times)(VEC(all)(tile->row[r].steps), zeros);
            VEC(store_ints)(acc, VEC(minus)(VEC(load_ints)(acc), less));
        }
    }
}

TARGET void VEC(qsdk_linear_int8_to_float)(const struct qsdk_linear_int8 *layer,
                                           const struct qsdk_linear_int8_tile *tile)
{
    const floats_t low = VEC(all_floats)(layer->low), high = VEC(all_floats)(layer->high);
    const size_t pitch = layer->outputs * sizeof(float);
    for (size_t i = 0; i < tile->count; i += LANES) {
        const size_t bytes = (tile->count - i < LANES ? tile->count - i : LANES) * sizeof(float);
        const floats_t scale = VEC(load_floats)(layer->scale + tile->first + i);
        const floats_t bias = VEC(load_floats)(layer->bias + tile->first + i);
        for (size_t r = 0; r < tile->rows; r++) {
            const floats_t acc = VEC(to_floats)(VEC(load_ints)(tile->acc + r * tile->pitch + i));
            const floats_t scales = VEC(multiply_floats)(VEC(all_floats)(tile->row[r].scale), scale);
            const floats_t sum = VEC(add_floats)(VEC(multiply_floats)(acc, scales), bias);
            const floats_t held = VEC(least)(high, VEC(most)(low, sum)); /* NaN, the second, stays */
            uint8_t *y = tile->y + r * pitch + i * sizeof(float);
            if (bytes == sizeof held)
                memcpy(y, &held, sizeof held);
            else
                memcpy(y, &held, bytes);
        }
    }
}

TARGET void VEC(qsdk_linear_int8_to_codes)(const struct qsdk_linear_int8 *layer,
                                           const struct qsdk_linear_int8_tile *tile)
{
    const ints_t zero = VEC(all)(layer->output_zero);
    const int low = layer->output_low - layer->output_zero;
    const int high = layer->output_high - layer->output_zero;
    for (size_t i = 0; i < tile->count; i += LANES) {
        const size_t n = tile->first + i, left = tile->count - i;
        for (size_t r = 0; r < tile->rows; r++) {
            const ints_t steps =
                VEC(requantize)(tile->acc + r * tile->pitch + i, layer->mantissa + n,
                                layer->addend + n, layer->right + n, low, high);
            uint8_t bytes[LANES];
            VEC(store_bytes)(bytes, VEC(add)(steps, zero));
            memcpy(tile->y + r * layer->outputs + i, bytes, left < LANES ? left : LANES);
        }
    }
}

#endif
