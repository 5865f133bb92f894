/* By row, for groups of one channel, written once for every kind of vector. Codes of a plane have 16
 * bits, so a vector of them holds pairs of neighbours, and one instruction multiplies each by a pair
 * of weights and adds both. With a stride of 2 these are the pairs of neighbouring results; with a
 * stride of 1 they are those of even results, and one code further on those of odd ones. No code is
 * moved within a vector.
 *
 * Results are made 2 * LANES at a time, in two halves: neighbours of a row, or, for what is left at
 * the end of rows, those of two rows. A half is written whole; what it writes past the end of its
 * row is written again later, and at the end of all it goes through a buffer.
 *
 * A file defines TARGET, SET(name), VEC(name) and LANES (linear_int8_loops.h), and gives
 *   SET(widen)(to, codes, kept, zero)  16 codes of 8 bits as 16 of 16 bits, or `zero` where those
 *       of kept are 0, not -1
 *   SET(store_some)(y, values, n)  stores the first n, which are fewer than LANES
 *   SET(pair)(acc, x, apart, is_narrow, stride, weights)  adds one pair to both halves; codes of the
 *       second are `apart` after those of the first, which they follow unless is_narrow
 *   SET(order)(acc, stride)  puts the sums of a block in order, once all pairs are added */
#ifdef SET
#define ROWS_INLINE TARGET static inline __attribute__((always_inline))

enum { WIDENED = 16, HELD = 8 }; /* codes at once; weights that registers hold */

typedef struct qsdk_conv_int8_rows rows_t;

/* n codes of `zero`, and up to 2 * LANES - 1 more. */
ROWS_INLINE int16_t *SET(fill)(int16_t *to, size_t n, int32_t zero)
{
    const ints_t two = VEC(all)((int32_t)(0x10001u * (uint16_t)zero));
    for (size_t i = 0; i < n; i += 2 * LANES)
        VEC(store_ints)((int32_t *)(void *)(to + i), two);
    return to + n;
}

TARGET void SET(qsdk_conv_int8_spread)(const struct qsdk_conv_int8 *layer, const uint8_t *codes,
                                       size_t from, size_t to, int32_t zero, int16_t *plane)
{
    static const int16_t kept[2 * WIDENED] = {-1, -1, -1, -1, -1, -1, -1, -1,
                                              -1, -1, -1, -1, -1, -1, -1, -1};
    const size_t odd = layer->width % WIDENED, whole = layer->width - odd;
    const size_t between = layer->pitch - layer->width, above = layer->begin[0] * layer->pitch;
    const size_t filled = WIDENED - odd < between ? WIDENED - odd : between; /* with the last codes */
    int16_t *at = plane + layer->begin[1] + above + from * layer->pitch;
    if (!from)
        SET(fill)(plane, layer->begin[1] + above, zero);
    for (size_t row = from; row < to; row++, codes += layer->width) {
        for (size_t i = 0; i < whole; i += WIDENED)
            SET(widen)(at + i, codes + i, kept, zero);
        SET(widen)(at + whole, codes + whole, kept + WIDENED - odd, zero);
        at = SET(fill)(at + layer->width + filled, between - filled, zero);
    }
    if (to == layer->height)
        SET(fill)(at, layer->end[0] * layer->pitch, zero);
}

/* What turns sums into results. */
struct ends {
    floats_t factor, bias, low, high, far;
    int32_t mantissa[LANES], right[LANES], is_quick;
    int64_t addend[LANES];
};

ROWS_INLINE void SET(prepare_float)(const rows_t *rows, struct ends *ends)
{
    ends->factor = VEC(all_floats)(rows->factor);
    ends->bias = VEC(all_floats)(rows->bias);
    ends->low = VEC(all_floats)(rows->layer->low);
    ends->high = VEC(all_floats)(rows->layer->high);
}

/* Codes come from sum * factor + bias in float32, rounded, where factor is mantissa / 2^right and
 * bias is addend / 2^right - 1/2. Of three roundings that scale with the product and two that scale
 * with bias and result the error is below (|result| + |bias|) / 2^22. Results beyond 512 are clipped
 * either way, so for a bias below 2^20 only what lies within (512 + |bias|) / 2^21 of a half, twice
 * as much, needs the product in 64 bits. */
ROWS_INLINE void SET(prepare_codes)(const rows_t *rows, struct ends *ends)
{
    const struct qsdk_conv_int8 *layer = rows->layer;
    const uint64_t bits = (uint64_t)(1023 - rows->right) << 52;
    double unit; /* 2^-right */
    memcpy(&unit, &bits, sizeof unit);
    const double bias = (double)rows->addend * unit - 0.5, size = bias < 0 ? -bias : bias;
    ends->is_quick = size < 0x1p20;
    ends->factor = VEC(all_floats)((float)(rows->mantissa * unit));
    ends->bias = VEC(all_floats)((float)bias);
    ends->low = VEC(all_floats)((float)(layer->output_low - layer->output_zero));
    ends->high = VEC(all_floats)((float)(layer->output_high - layer->output_zero));
    ends->far = VEC(all_floats)((float)(0.5 - (512 + size) * 0x1p-21));
    for (size_t i = 0; i < LANES; i++) {
        ends->mantissa[i] = rows->mantissa;
        ends->right[i] = rows->right;
        ends->addend[i] = rows->addend;
    }
}

ROWS_INLINE void SET(write_float)(const rows_t *rows, const struct ends *ends, size_t place, ints_t acc)
{
    float *y = (float *)rows->y + place;
    floats_t value = VEC(multiply_floats)(VEC(to_floats)(acc), ends->factor);
    value = VEC(most)(ends->low, VEC(add_floats)(value, ends->bias));
    value = VEC(least)(ends->high, value); /* NaN stays: the second */
    if (place + LANES <= rows->room)
        VEC(store_floats)(y, value);
    else
        SET(store_some)(y, value, rows->room - place);
}

ROWS_INLINE ints_t SET(requantized)(const rows_t *rows, const struct ends *ends, ints_t acc)
{
    floats_t about = VEC(multiply_floats)(VEC(to_floats)(acc), ends->factor);
    about = VEC(most)(ends->low, VEC(add_floats)(about, ends->bias));
    about = VEC(least)(ends->high, about);
    const floats_t far = VEC(farther)(VEC(all_floats)(0), about);
    if (ends->is_quick && !VEC(any_above)(far, ends->far))
        return VEC(nearest)(about);
    const struct qsdk_conv_int8 *layer = rows->layer;
    const int low = layer->output_low - layer->output_zero;
    const int high = layer->output_high - layer->output_zero;
    int32_t sums[LANES];
    VEC(store_ints)(sums, acc);
    return VEC(requantize)(sums, ends->mantissa, ends->addend, ends->right, low, high);
}

ROWS_INLINE void SET(write_other)(const rows_t *rows, const struct ends *ends, size_t place, ints_t acc)
{
    const size_t left = rows->room - place, size = rows->layer->output == QSDK_LINEAR_INT8_INT32 ? 4 : 1;
    uint8_t results[4 * LANES], *y = (uint8_t *)rows->y + size * place;
    if (size == 4) {
        VEC(store_ints)((int32_t *)(void *)results, acc);
    } else {
        const ints_t zero = VEC(all)(rows->layer->output_zero);
        VEC(store_bytes)(results, VEC(add)(SET(requantized)(rows, ends, acc), zero));
    }
    if (left < LANES)
        memcpy(y, results, size * left);
    else if (size == 4)
        memcpy(y, results, 4 * LANES);
    else
        memcpy(y, results, LANES);
}

ROWS_INLINE void SET(write)(const rows_t *rows, const struct ends *ends, int is_float, size_t place,
                            ints_t acc)
{
    if (is_float)
        SET(write_float)(rows, ends, place, acc);
    else
        SET(write_other)(rows, ends, place, acc);
}

/* Pair k of weights, in all lanes. */
ROWS_INLINE ints_t SET(weights)(const rows_t *rows, size_t k)
{
    int32_t pair;
    memcpy(&pair, rows->weights + 2 * k, sizeof pair);
    return VEC(all)(pair);
}

/* Sums of a block from x on; `held` are its weights where they are few. */
ROWS_INLINE void SET(block)(const rows_t *rows, const ints_t *held, const int16_t *x, size_t apart,
                            int is_narrow, size_t height, size_t pairs, size_t stride, size_t across,
                            size_t below, ints_t *acc)
{
    acc[0] = acc[1] = VEC(all)(rows->start);
#pragma GCC unroll 5
    for (size_t i = 0; i < height; i++) {
        const int16_t *row = x + i * below;
#pragma GCC unroll 3
        for (size_t q = 0; q < pairs; q++) {
            const size_t k = i * pairs + q;
            const ints_t weights = held ? held[k] : SET(weights)(rows, k);
            SET(pair)(acc, row + q * across, apart, is_narrow, stride, weights);
        }
    }
    SET(order)(acc, stride);
}

/* height, pairs and stride are constants where the kernel is a usual one: weights stay in registers,
 * if they are few. */
ROWS_INLINE void SET(all_rows)(const rows_t *rows, size_t height, size_t pairs, size_t stride,
                               size_t across, int is_held, int is_float)
{
    const struct qsdk_conv_int8 *layer = rows->layer;
    const size_t width = layer->out_width, rest = width % (2 * LANES);
    const size_t whole = rest > LANES ? width : width - rest; /* of a row, in blocks */
    const size_t below = layer->dilation[0] * layer->pitch, down = layer->stride[0] * layer->pitch;
    ints_t weights[HELD], acc[2];
    struct ends ends;
    if (is_float)
        SET(prepare_float)(rows, &ends);
    else
        SET(prepare_codes)(rows, &ends);
#pragma GCC unroll 8
    for (size_t k = 0; k < HELD; k++)
        if (is_held && k < height * pairs)
            weights[k] = SET(weights)(rows, k);
    const ints_t *held = is_held ? weights : NULL;
    for (size_t row = 0; row < rows->rows; row++) {
        const int16_t *x = rows->x + row * down;
        const size_t place = row * width;
        for (size_t c = 0; c < whole; c += 2 * LANES) {
            SET(block)(rows, held, x + c * stride, LANES * stride, 0, height, pairs, stride,
                       across, below, acc);
            SET(write)(rows, &ends, is_float, place + c, acc[0]);
            SET(write)(rows, &ends, is_float, place + c + LANES, acc[1]);
        }
        if (whole == width || row % 2)
            continue;
        const int is_last = row + 1 == rows->rows; /* then twice the same, or any */
        const int16_t *left = x + whole * stride;
        if (stride == 1 && down == LANES)
            SET(block)(rows, held, left, down, 0, height, pairs, stride, across, below, acc);
        else
            SET(block)(rows, held, left, is_last ? 0 : down, 1, height, pairs, stride, across, below,
                       acc);
        SET(write)(rows, &ends, is_float, place + whole, acc[0]);
        if (!is_last)
            SET(write)(rows, &ends, is_float, place + width + whole, acc[1]);
    }
}

#define ROWS(name, height, pairs, stride, across, is_held) \
    TARGET static void SET(floats_##name)(const rows_t *rows) \
    { \
        SET(all_rows)(rows, height, pairs, stride, across, is_held, 1); \
    } \
    TARGET static void SET(others_##name)(const rows_t *rows) \
    { \
        SET(all_rows)(rows, height, pairs, stride, across, is_held, 0); \
    }

ROWS(3x3, 3, 2, 1, 2, 1)
ROWS(3x3_by_2, 3, 2, 2, 2, 1)
ROWS(5x5, 5, 3, 1, 2, 0)
ROWS(5x5_by_2, 5, 3, 2, 2, 0)
ROWS(any, rows->layer->kernel[0], rows->layer->pairs, 1, rows->layer->across, 0)
ROWS(any_by_2, rows->layer->kernel[0], rows->layer->pairs, 2, rows->layer->across, 0)

/* For the kernel, then the stride, then whether results are float32. */
static void (*const SET(kernels)[3][2][2])(const rows_t *rows) = {
    {{SET(others_any), SET(floats_any)}, {SET(others_any_by_2), SET(floats_any_by_2)}},
    {{SET(others_3x3), SET(floats_3x3)}, {SET(others_3x3_by_2), SET(floats_3x3_by_2)}},
    {{SET(others_5x5), SET(floats_5x5)}, {SET(others_5x5_by_2), SET(floats_5x5_by_2)}},
};

TARGET void SET(qsdk_conv_int8_rows)(const rows_t *rows)
{
    const struct qsdk_conv_int8 *layer = rows->layer;
    const size_t *kernel = layer->kernel;
    const int is_square = kernel[0] == kernel[1] && layer->dilation[1] == 1;
    const int which = !is_square ? 0 : kernel[0] == 3 ? 1 : kernel[0] == 5 ? 2 : 0;
    SET(kernels)[which][layer->stride[1] - 1][layer->output == QSDK_LINEAR_INT8_FLOAT](rows);
}
#endif
