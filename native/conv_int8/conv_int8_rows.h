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
 *   SET(pair)(acc, x, apart, is_narrow, stride, weights, is_one)  adds a pair to both halves; codes
 *       of the second are `apart` after those of the first, which they follow unless is_narrow; of
 *       a pair that is_one the second weight is 0
 *   SET(order)(acc, stride)  puts the sums of a block in order, once all pairs are added */
#ifdef SET
#define ROWS_INLINE TARGET static inline __attribute__((always_inline))

#define NOWHERE SIZE_MAX

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
    ints_t zero;
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
    ends->zero = VEC(all)(layer->output_zero);
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

/* Sums of a block become codes. */
ROWS_INLINE void SET(requantize_block)(const rows_t *rows, const struct ends *ends, ints_t *acc)
{
    floats_t about[2], far = VEC(all_floats)(0);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        about[i] = VEC(multiply_floats)(VEC(to_floats)(acc[i]), ends->factor);
        about[i] = VEC(most)(ends->low, VEC(add_floats)(about[i], ends->bias));
        about[i] = VEC(least)(ends->high, about[i]);
        far = VEC(farther)(far, about[i]);
    }
    const int is_quick = ends->is_quick && !VEC(any_above)(far, ends->far);
    const struct qsdk_conv_int8 *layer = rows->layer;
    const int low = layer->output_low - layer->output_zero;
    const int high = layer->output_high - layer->output_zero;
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        ints_t steps;
        if (is_quick) {
            steps = VEC(nearest)(about[i]);
        } else {
            int32_t sums[LANES];
            VEC(store_ints)(sums, acc[i]);
            steps = VEC(requantize)(sums, ends->mantissa, ends->addend, ends->right, low, high);
        }
        acc[i] = VEC(add)(steps, ends->zero);
    }
}

ROWS_INLINE void SET(write_int32)(const rows_t *rows, size_t place, ints_t acc)
{
    int32_t *y = (int32_t *)rows->y + place, part[LANES];
    if (place + LANES <= rows->room) {
        VEC(store_ints)(y, acc);
    } else {
        VEC(store_ints)(part, acc);
        memcpy(y, part, (rows->room - place) * sizeof *y);
    }
}

ROWS_INLINE void SET(write_codes)(const rows_t *rows, size_t place, ints_t codes)
{
    uint8_t *y = (uint8_t *)rows->y + place, part[LANES];
    if (place + LANES <= rows->room) {
        VEC(store_bytes)(y, codes);
    } else {
        VEC(store_bytes)(part, codes);
        memcpy(y, part, rows->room - place);
    }
}

/* Results of a block; those of the second half go to place `second`, if that is not NOWHERE. */
ROWS_INLINE void SET(write)(const rows_t *rows, const struct ends *ends, int is_float, size_t first,
                            size_t second, ints_t *acc)
{
    const int is_codes = !is_float && rows->layer->output == QSDK_LINEAR_INT8_REQUANTIZED;
    if (is_codes)
        SET(requantize_block)(rows, ends, acc);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const size_t place = i ? second : first;
        if (place == NOWHERE)
            break;
        if (is_float)
            SET(write_float)(rows, ends, place, acc[i]);
        else if (is_codes)
            SET(write_codes)(rows, place, acc[i]);
        else
            SET(write_int32)(rows, place, acc[i]);
    }
}

/* Pair k of weights, in all lanes. */
ROWS_INLINE ints_t SET(weights)(const rows_t *rows, size_t k)
{
    int32_t pair;
    memcpy(&pair, rows->weights + 2 * k, sizeof pair);
    return VEC(all)(pair);
}

/* Constants where the kernel is a usual one. */
struct shape {
    size_t height, pairs, stride, across;
    int is_odd;  /* of the last pair the second weight is 0 */
    int is_held; /* weights stay in registers: they are at most HELD */
};

/* Sums of a block from x on; `held` are its weights where they are few. */
ROWS_INLINE void SET(block)(const rows_t *rows, const struct shape *shape, const ints_t *held,
                            const int16_t *x, size_t apart, int is_narrow, ints_t *acc)
{
    const size_t below = rows->below;
    acc[0] = acc[1] = VEC(all)(rows->start);
#pragma GCC unroll 5
    for (size_t i = 0; i < shape->height; i++, x += below)
#pragma GCC unroll 3
        for (size_t q = 0; q < shape->pairs; q++) {
            const size_t k = i * shape->pairs + q;
            const ints_t weights = shape->is_held ? held[k] : SET(weights)(rows, k);
            SET(pair)(acc, x + q * shape->across, apart, is_narrow, shape->stride, weights,
                      shape->is_odd && q + 1 == shape->pairs);
        }
    SET(order)(acc, shape->stride);
}

/* Rows in order: first the whole blocks of one, then what is left of it and of the next together. */
ROWS_INLINE void SET(all_rows)(const rows_t *rows, const struct shape *shape, int is_float)
{
    const struct qsdk_conv_int8 *layer = rows->layer;
    const size_t width = layer->out_width, rest = width % (2 * LANES), stride = shape->stride;
    const size_t whole = rest > LANES ? width : width - rest; /* of a row, in blocks */
    const size_t down = layer->stride[0] * layer->pitch, count = rows->rows;
    ints_t held[HELD], acc[2];
    struct ends ends;
    if (is_float)
        SET(prepare_float)(rows, &ends);
    else
        SET(prepare_codes)(rows, &ends);
    for (size_t k = 0; k < HELD; k++)
        if (shape->is_held && k < shape->height * shape->pairs)
            held[k] = SET(weights)(rows, k);
    const int16_t *x = rows->x;
    for (size_t row = 0, place = 0; row < count; row++, place += width, x += down) {
        for (size_t c = 0; c < whole; c += 2 * LANES) {
            SET(block)(rows, shape, held, x + c * stride, LANES * stride, 0, acc);
            SET(write)(rows, &ends, is_float, place + c, place + c + LANES, acc);
        }
        if (whole == width || row % 2)
            continue;
        const int is_last = row + 1 == count; /* then twice the same, or whatever follows */
        if (stride == 1 && down == LANES)
            SET(block)(rows, shape, held, x + whole, LANES, 0, acc);
        else
            SET(block)(rows, shape, held, x + whole * stride, is_last ? 0 : down, 1, acc);
        const size_t left = place + whole;
        SET(write)(rows, &ends, is_float, left, is_last ? NOWHERE : left + width, acc);
    }
}

#define ROWS(name, ...) \
    TARGET static void SET(floats_##name)(const rows_t *rows) \
    { \
        const struct shape shape = {__VA_ARGS__}; \
        SET(all_rows)(rows, &shape, 1); \
    } \
    TARGET static void SET(others_##name)(const rows_t *rows) \
    { \
        const struct shape shape = {__VA_ARGS__}; \
        SET(all_rows)(rows, &shape, 0); \
    }

ROWS(3x3, 3, 2, 1, 2, 1, 1)
ROWS(3x3_by_2, 3, 2, 2, 2, 1, 1)
ROWS(5x5, 5, 3, 1, 2, 1, 0)
ROWS(5x5_by_2, 5, 3, 2, 2, 1, 0)
ROWS(any, rows->layer->kernel[0], rows->layer->pairs, 1, rows->layer->across, 0, 0)
ROWS(any_by_2, rows->layer->kernel[0], rows->layer->pairs, 2, rows->layer->across, 0, 0)

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
