/* What the two ARM sets share: loading quads, and choosing among products of constant size. A file
 * defines SET(name) and TARGET, and gives SET(sum). */
#if defined(SET) && defined(__aarch64__)
#include <arm_neon.h>

#define TILE_INLINE static inline __attribute__((always_inline, unused)) TARGET

/* The quads of 4 positions that are so many bytes apart. */
TILE_INLINE int8x16_t SET(load)(const uint8_t *x, size_t unit)
{
    static const uint8_t spread[2][16] = {{0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6},
                                          {0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7, 8, 9}};
    if (unit == 4)
        return vreinterpretq_s8_u8(vld1q_u8(x));
    if (unit <= 2)
        return vreinterpretq_s8_u8(vqtbl1q_u8(vld1q_u8(x), vld1q_u8(spread[unit - 1])));
    uint8_t quads[16];
    gather_portable(x, unit, 4, quads);
    return vreinterpretq_s8_u8(vld1q_u8(quads));
}

TILE_INLINE void SET(sum)(const tile_t *tile, int32_t *sums, int block, int vectors, size_t unit);

#define SUMS(name, block, unit) \
    TARGET static void SET(name##_##block)(const tile_t *tile, int32_t *sums) \
    { \
        if (tile->vectors == 3) \
            SET(sum)(tile, sums, block, 3, unit); \
        else if (tile->vectors == 2) \
            SET(sum)(tile, sums, block, 2, unit); \
        else \
            SET(sum)(tile, sums, block, 1, unit); \
    }

SUMS(quads, 8, 4)
SUMS(quads, 4, 4)
SUMS(quads, 2, 4)
SUMS(quads, 1, 4)
SUMS(bytes, 8, tile->layer->unit)
SUMS(bytes, 4, tile->layer->unit)
SUMS(bytes, 2, tile->layer->unit)
SUMS(bytes, 1, tile->layer->unit)

TARGET static void SET(tile)(const tile_t *tile)
{
    int32_t sums[QSDK_CONV_INT8_BLOCK * QSDK_CONV_INT8_POSITIONS];
    const int is_quads = tile->layer->unit == 4;
    switch (tile->block) {
    case 8: (is_quads ? SET(quads_8) : SET(bytes_8))(tile, sums); break;
    case 4: (is_quads ? SET(quads_4) : SET(bytes_4))(tile, sums); break;
    case 2: (is_quads ? SET(quads_2) : SET(bytes_2))(tile, sums); break;
    default: (is_quads ? SET(quads_1) : SET(bytes_1))(tile, sums);
    }
    results_portable(tile, sums, 4);
}

TARGET static void SET(quads)(const uint8_t *const rows[4], size_t step, size_t n, uint8_t *to)
{
    quads_inlined_portable(rows, step, n, to);
}
#endif
