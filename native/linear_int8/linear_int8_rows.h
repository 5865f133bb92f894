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
    ints_t most = VEC(all)(0);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        most = VEC(larger)(most, VEC(magnitude)(VEC(load_floats)(x + i)));
    most = VEC(larger)(most, VEC(magnitude)(VEC(tail)(x + i, n - i)));
    int32_t lanes[LANES], size = 0;
    VEC(store_ints)(lanes, most);
    for (int lane = 0; lane < LANES; lane++)
        size = lanes[lane] > size ? lanes[lane] : size;
    return (uint32_t)size;
}

TARGET void VEC(qsdk_linear_int8_range)(const float *x, size_t n, float *low, float *high)
{
    floats_t least = VEC(all_floats)(0), most = least;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const floats_t value = VEC(load_floats)(x + i);
        least = VEC(least)(least, value);
        most = VEC(most)(most, value);
    }
    const floats_t last = VEC(tail)(x + i, n - i);
    float lows[LANES], highs[LANES];
    VEC(store_floats)(lows, VEC(least)(least, last));
    VEC(store_floats)(highs, VEC(most)(most, last));
    *low = lows[0], *high = highs[0];
    for (int lane = 1; lane < LANES; lane++) {
        *low = lows[lane] < *low ? lows[lane] : *low;
        *high = highs[lane] > *high ? highs[lane] : *high;
    }
}

TARGET void VEC(qsdk_linear_int8_code)(const float *x, size_t n, float scale, int low, int high,
                                       int zero, int flip, uint8_t *out)
{
    const floats_t divisor = VEC(all_floats)(scale);
    const floats_t lowest = VEC(all_floats)((float)low), highest = VEC(all_floats)((float)high);
    const ints_t add = VEC(all)(zero), flips = VEC(all)(flip);
    for (size_t i = 0; i < n; i += LANES) {
        const floats_t value =
            i + LANES <= n ? VEC(load_floats)(x + i) : VEC(tail)(x + i, n - i);
        const floats_t steps = VEC(divide)(value, divisor); /* most(a, NaN) is a */
        const floats_t held = VEC(least)(VEC(most)(steps, lowest), highest);
        VEC(store_bytes)(out + i, VEC(flip)(VEC(add)(VEC(nearest)(held), add), flips));
    }
}

TARGET void VEC(qsdk_linear_int8_correct)(const struct qsdk_linear_int8 *layer, size_t first,
                                          size_t count, const struct qsdk_linear_int8_row *row,
                                          int32_t *acc)
{
    const ints_t zero = VEC(all)(row->zero), steps = VEC(all)(row->steps);
    for (size_t i = 0; i < count; i += LANES) {
        const ints_t left = VEC(times)(zero, VEC(load_ints)(layer->sums + first + i));
        const ints_t right = VEC(times)(steps, VEC(load_ints)(layer->zeros + first + i));
        VEC(store_ints)(acc + i, VEC(minus)(VEC(load_ints)(acc + i), VEC(add)(left, right)));
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
