/* The table of a set, from the names that linear_int8_loops.h and linear_int8_rows.h give, and WIDEN,
 * if its product takes 16-bit codes. */
#ifdef LINEAR_INT8_VECTORS
#ifndef WIDEN
#define WIDEN NULL
#endif

#define TABLE(set, weights, is_int8, taken, speed) \
    const struct qsdk_linear_int8_set qsdk_linear_int8_##set = { \
        .name = #set, \
        .room = QSDK_LINEAR_INT8_##weights, \
        .is_signed = is_int8, \
        .rows = ROWS, \
        .blocks = 4, \
        .step = taken, \
        .macs = speed, \
        .multiply = SET(multiply), \
        .size = VEC(qsdk_linear_int8_size), \
        .range = VEC(qsdk_linear_int8_range), \
        .code = VEC(qsdk_linear_int8_code), \
        .widen = WIDEN, \
        .correct = VEC(qsdk_linear_int8_correct), \
        .to_float = VEC(qsdk_linear_int8_to_float), \
        .to_codes = VEC(qsdk_linear_int8_to_codes), \
    }

uint32_t VEC(qsdk_linear_int8_size)(const float *x, size_t n);
void VEC(qsdk_linear_int8_range)(const float *x, size_t n, float *low, float *high);
void VEC(qsdk_linear_int8_code)(const float *x, size_t n, float scale, int low, int high, int zero,
                                uint8_t *out);
void VEC(qsdk_linear_int8_correct)(const struct qsdk_linear_int8 *layer,
                                   const struct qsdk_linear_int8_tile *tile);
void VEC(qsdk_linear_int8_to_float)(const struct qsdk_linear_int8 *layer,
                                    const struct qsdk_linear_int8_tile *tile);
void VEC(qsdk_linear_int8_to_codes)(const struct qsdk_linear_int8 *layer,
                                    const struct qsdk_linear_int8_tile *tile);
#endif
