/* The loops of every vector set, written once. A set defines
 *
 *   SET(name)          name with the suffix of the set
 *   TARGET             its target attribute
 *   VEC(name)          name with the suffix of its vectors, in linear_int8_avx2.h and the like
 *   sums_t             accumulators of LANES outputs, which may be more than one register
 *   SET(dot)(acc, a, w), SET(total)(acc)    four products per lane; the sums as one vector
 *   FOUR, codes_t, SET(four)(a)    bytes of four codes of a row; what `dot` takes of them; made of
 *                      those at a. Without FOUR: 4, and the four in every lane
 *   ROWS, WIDE         of the largest product that its registers hold: ROWS rows, WIDE blocks
 *
 * and gets SET(multiply) and the entries of its table. Included by .c files alone. */
#ifdef SET

#define INLINE static inline __attribute__((always_inline, unused)) TARGET
#define SPAN (16 / LANES) /* vectors of a block of 16 outputs */

#ifndef FOUR
#define FOUR 4
typedef ints_t codes_t;

INLINE codes_t SET(four)(const uint8_t *a)
{
    return VEC(repeat)(a);
}
#endif

/* `rows` rows times `blocks` blocks; one step: a load per vector of weights, a broadcast per row. */
INLINE void SET(block)(const struct qsdk_linear_int8_block *o, int rows, int blocks, int b, int all)
{
    sums_t acc[ROWS][WIDE * SPAN];
    const uint8_t *w = o->weights + (size_t)b * o->apart, *a = o->codes;
    /* Short rows are over before the CPU has seen where the next ones lie. */
    const uint8_t *next = a + (size_t)rows * o->stride;
    const size_t ahead = o->quads <= 512 ? (size_t)(FOUR * rows) : 0;
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (int v = 0; v < blocks * SPAN; v++)
            acc[r][v] = SET(none)();
    for (size_t q = 0; q < o->quads; q++, w += 64, a += FOUR, next += ahead) {
        __builtin_prefetch(next);
        ints_t weights[WIDE * SPAN];
#pragma GCC unroll 16
        for (int v = 0; v < blocks * SPAN; v++)
            weights[v] = VEC(load)(w + (size_t)(v / SPAN) * o->apart + v % SPAN * (LANES * 4));
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            const codes_t codes = SET(four)(a + (size_t)r * o->stride);
#pragma GCC unroll 16
            for (int v = 0; v < blocks * SPAN; v++)
                acc[r][v] = SET(dot)(acc[r][v], codes, weights[v]);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (int v = 0; v < blocks * SPAN; v++) {
            const size_t lane = (size_t)(16 * b + v * LANES);
            const ints_t start = VEC(load_ints)(o->start + lane);
            VEC(store_ints)(o->tile + (size_t)(16 * r * all) + lane,
                            VEC(add)(start, SET(total)(acc[r][v])));
        }
}

/* One row times one block: weights are read once, in order, and reading them limits. */
INLINE void SET(stream)(const struct qsdk_linear_int8_block *o, int b)
{
    enum { APART = 4, AHEAD = 8192 };
    sums_t acc[APART][SPAN];
    const uint8_t *w = o->weights + (size_t)b * o->apart, *a = o->codes;
    size_t q = 0;
#pragma GCC unroll 16
    for (int i = 0; i < APART; i++)
#pragma GCC unroll 16
        for (int v = 0; v < SPAN; v++)
            acc[i][v] = SET(none)();
    for (; q + APART <= o->quads; q += APART, w += 64 * APART, a += FOUR * APART)
#pragma GCC unroll 16
        for (int i = 0; i < APART; i++) {
            const codes_t codes = SET(four)(a + FOUR * i);
            __builtin_prefetch(w + 64 * i + AHEAD);
#pragma GCC unroll 16
            for (int v = 0; v < SPAN; v++)
                acc[i][v] = SET(dot)(acc[i][v], codes, VEC(load)(w + 64 * i + v * (LANES * 4)));
        }
    for (; q < o->quads; q++, w += 64, a += FOUR) {
        const codes_t codes = SET(four)(a);
#pragma GCC unroll 16
        for (int v = 0; v < SPAN; v++)
            acc[0][v] = SET(dot)(acc[0][v], codes, VEC(load)(w + v * (LANES * 4)));
    }
#pragma GCC unroll 16
    for (int v = 0; v < SPAN; v++) {
        const size_t lane = (size_t)(16 * b + v * LANES);
        ints_t sum = VEC(load_ints)(o->start + lane);
#pragma GCC unroll 16
        for (int i = 0; i < APART; i++)
            sum = VEC(add)(sum, SET(total)(acc[i][v]));
        VEC(store_ints)(o->tile + lane, sum);
    }
}

INLINE void SET(rows)(const struct qsdk_linear_int8_block *o, int rows, int wide, int b, int all)
{
    switch (rows) { /* constants, so that accumulators are registers */
    case 1: SET(block)(o, 1, wide, b, all); break;
    case 2: SET(block)(o, 2, wide, b, all); break;
#if ROWS > 2
    case 3: SET(block)(o, 3, wide, b, all); break;
    case 4: SET(block)(o, 4, wide, b, all); break;
#endif
#if ROWS > 4
    case 5: SET(block)(o, 5, wide, b, all); break;
    case 6: SET(block)(o, 6, wide, b, all); break;
#endif
    }
}

TARGET static void SET(multiply)(const struct qsdk_linear_int8_block *o, int rows, int blocks)
{
    int b = 0;
    if (rows == 1) {
        for (; b < blocks; b++)
            SET(stream)(o, b);
        return;
    }
#if WIDE == 4
    for (; b + 4 <= blocks; b += 4)
        SET(rows)(o, rows, 4, b, blocks);
    for (; b + 2 <= blocks; b += 2)
        SET(rows)(o, rows, 2, b, blocks);
#endif
    for (; b < blocks; b++)
        SET(rows)(o, rows, 1, b, blocks);
}

#endif
