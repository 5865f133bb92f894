/* SQuant, 8 values at a time; limited by the division and by about two operations a cycle.
 *
 * As in avx512.c: an error counts in `shifted`, the bits of 12 + error, if its value is within the
 * grid, and is 0 there if it is outside; 3x3 kernels stand in lanes; stage C looks for a threshold
 * that few pass. Kernels of another size go to the portable code. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>
#include <string.h>

#define AVX2 __attribute__((target("avx2")))
#define ONE ((int32_t)1 << 20)
#define ZERO 0x41400000 /* the bits of 12.0f, which shifted errors count from */
#define CHUNK 16384     /* values whose errors, 8 sums of them, fit 32 bits */
#define HITS 64         /* values past the threshold of stage C that are looked at one by one */

struct grid {
    __m256 scale, low, high;
};

AVX2 static inline struct grid grid_avx2(float scale, int32_t zero_point, int32_t qmin,
                                         int32_t qmax)
{
    const struct grid grid = {_mm256_set1_ps(scale), _mm256_set1_ps((float)(qmin - zero_point)),
                              _mm256_set1_ps((float)(qmax - zero_point))};
    return grid;
}

/* The steps, in the low byte of each lane. Bits of outside become 1 where u is off the grid. */
AVX2 static inline __m256i round_avx2(__m256 u, const struct grid *grid, __m256i *shifted,
                                      __m256i *outside)
{
    const __m256 held = _mm256_min_ps(_mm256_max_ps(u, grid->low), grid->high);
    *outside = _mm256_or_si256(*outside, _mm256_castps_si256(_mm256_xor_ps(u, held)));
    const __m256 shift = _mm256_set1_ps(0x1.8p23f);
    const __m256 steps = _mm256_add_ps(held, shift);
    const __m256 error = _mm256_sub_ps(_mm256_sub_ps(steps, shift), held);
    *shifted = _mm256_castps_si256(_mm256_add_ps(error, _mm256_set1_ps(12)));
    return _mm256_castps_si256(steps);
}

/* The errors of the values that are outside, 0 for the others. */
AVX2 static inline __m256i outside_avx2(__m256 u, const struct grid *grid)
{
    const __m256 reach = _mm256_set1_ps(QSDK_REACH);
    u = _mm256_max_ps(u, _mm256_sub_ps(grid->low, reach));
    u = _mm256_min_ps(u, _mm256_add_ps(grid->high, reach));
    const __m256 held = _mm256_min_ps(_mm256_max_ps(u, grid->low), grid->high);
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(held, u), _mm256_set1_ps((float)ONE)));
}

AVX2 static inline int64_t sum_avx2(__m256i values)
{
    int32_t lane[8];
    int64_t sum = 0;
    _mm256_storeu_si256((__m256i *)lane, values);
    for (size_t i = 0; i < 8; i++)
        sum += lane[i];
    return sum;
}

AVX2 static inline __m256i lanes_avx2(void)
{
    return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
}

AVX2 static inline __m256i first_avx2(size_t n) /* all ones in the first n lanes */
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int32_t)n : 8), lanes_avx2());
}

/* Stage E on up to CHUNK values: returns the sum of the errors. */
AVX2 static int64_t round_row_avx2(const float *x, size_t n, const struct grid *grid,
                                   int32_t zero_point, int32_t *shifted, uint8_t *codes)
{
    const __m256i byte = _mm256_set1_epi32(0xFF);
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7); /* packs work in halves */
    __m256i sums = _mm256_setzero_si256();
    int64_t far = 0;
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m256i steps[4], error, outside = _mm256_setzero_si256();
        for (size_t k = 0; k < 4; k++) {
            const __m256 u = _mm256_div_ps(_mm256_loadu_ps(x + i + 8 * k), grid->scale);
            steps[k] = _mm256_and_si256(round_avx2(u, grid, &error, &outside), byte);
            sums = _mm256_add_epi32(sums, error);
            _mm256_storeu_si256((__m256i *)(shifted + i + 8 * k), error);
        }
        if (!_mm256_testz_si256(outside, outside))
            for (size_t k = 0; k < 4; k++)
                far += sum_avx2(outside_avx2(
                    _mm256_div_ps(_mm256_loadu_ps(x + i + 8 * k), grid->scale), grid));
        const __m256i bytes = _mm256_packus_epi16(_mm256_packus_epi32(steps[0], steps[1]),
                                                  _mm256_packus_epi32(steps[2], steps[3]));
        const __m256i ordered = _mm256_permutevar8x32_epi32(bytes, in_order);
        _mm256_storeu_si256((__m256i *)(codes + i),
                            _mm256_add_epi8(ordered, _mm256_set1_epi8((char)zero_point)));
    }
    for (; i < n; i += 8) {
        const __m256i some = first_avx2(n - i);
        const __m256 u = _mm256_div_ps(_mm256_maskload_ps(x + i, some), grid->scale);
        __m256i error, outside = _mm256_setzero_si256();
        int32_t steps[8];
        _mm256_storeu_si256((__m256i *)steps, round_avx2(u, grid, &error, &outside));
        sums = _mm256_add_epi32(sums, error);
        far += sum_avx2(outside_avx2(u, grid));
        _mm256_maskstore_epi32(shifted + i, some, error);
        for (size_t k = 0; k < 8 && i + k < n; k++)
            codes[i + k] = (uint8_t)(steps[k] + zero_point);
    }
    const int32_t added = (int32_t)((uint32_t)ZERO * (uint32_t)(i / 8));
    return far + sum_avx2(_mm256_sub_epi32(sums, _mm256_set1_epi32(added)));
}

/* rne(|sum| / ONE) */
static inline size_t wanted_avx2(int64_t sum)
{
    const uint64_t size = sum < 0 ? 0 - (uint64_t)sum : (uint64_t)sum;
    return (size_t)((size + ONE / 2 - 1 + (size >> 20) % 2) >> 20);
}

/* By how much the ranks of 8 values, or of the first n, are above a threshold; others are not. */
AVX2 static inline __m256i excess_avx2(const int32_t *shifted, size_t n, int32_t sign,
                                       int32_t threshold)
{
    const __m256i some = first_avx2(n);
    const __m256i value = _mm256_maskload_epi32(shifted, some);
    const __m256i rank = _mm256_xor_si256(value, _mm256_set1_epi32(sign));
    return _mm256_and_si256(
        some, _mm256_sub_epi32(rank, _mm256_set1_epi32((ZERO ^ sign) + threshold)));
}

/* The keys of values whose rank is above the threshold: by how much, then after how many others
 * of the row, in place_bits. Returns how many, or more than HITS; stops there. */
AVX2 static size_t find_above_avx2(const int32_t *shifted, size_t n, int32_t sign,
                                   int32_t threshold, int place_bits, int32_t *keys)
{
    const size_t last = ((size_t)1 << place_bits) - 1;
    size_t found = 0;
    for (size_t i = 0; i < n; i += 8) {
        const __m256i excess = excess_avx2(shifted + i, n - i, sign, threshold);
        const __m256i above = _mm256_cmpgt_epi32(excess, _mm256_setzero_si256());
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(above));
        int32_t lane[8];
        if (mask)
            _mm256_storeu_si256((__m256i *)lane, excess);
        for (; mask; mask &= mask - 1) {
            const size_t k = (size_t)__builtin_ctz(mask);
            if (found == HITS)
                return HITS + 1;
            keys[found++] = (lane[k] << place_bits) + (int32_t)(last - i - k);
        }
    }
    return found;
}

AVX2 static size_t count_above_avx2(const int32_t *shifted, size_t n, int32_t sign,
                                    int32_t threshold)
{
    __m256i count = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 8)
        count = _mm256_sub_epi32(
            count, _mm256_cmpgt_epi32(excess_avx2(shifted + i, n - i, sign, threshold),
                                      _mm256_setzero_si256()));
    return (size_t)sum_avx2(count);
}

static inline void move_avx2(uint8_t *codes, const int32_t *place, size_t i, int32_t sign)
{
    uint8_t *code = codes + (place ? (size_t)place[i] : i);
    *code = (uint8_t)(*code + (sign < 0 ? 1 : -1));
}

/* Moves those of at most HITS values whose keys are among the `wanted` largest. */
AVX2 static void move_largest_avx2(int32_t *keys, size_t found, int place_bits,
                                   const int32_t *place, int32_t sign, size_t wanted,
                                   uint8_t *codes)
{
    const uint32_t last = ((uint32_t)1 << place_bits) - 1;
    for (size_t i = 0; i < found; i += 8) {
        const __m256i some = _mm256_loadu_si256((const __m256i *)(keys + i));
        __m256i larger = _mm256_setzero_si256(); /* how many keys are */
        for (size_t h = 0; h < found; h++)
            larger = _mm256_sub_epi32(larger,
                                      _mm256_cmpgt_epi32(_mm256_set1_epi32(keys[h]), some));
        const __m256i move = _mm256_and_si256(
            first_avx2(found - i), _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)wanted), larger));
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(move));
        for (; mask; mask &= mask - 1)
            move_avx2(codes, place, ~(uint32_t)keys[i + (size_t)__builtin_ctz(mask)] & last, sign);
    }
}

static void move_many_avx2(const int32_t *shifted, const int32_t *place, size_t n, int32_t sign,
                           int32_t high, size_t equal, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t error = shifted[i] - ZERO;
        const int32_t rank = sign < 0 ? -error : error;
        if (rank < high || (rank == high && equal == 0))
            continue;
        equal -= rank == high;
        move_avx2(codes, place, i, sign);
    }
}

/* The flip step of stage C. Ranks are less than top; gap guesses how far below it to look. */
AVX2 static void flip_row_avx2(const int32_t *shifted, const int32_t *place, size_t n, int64_t sum,
                               int32_t top, int32_t gap, uint8_t *codes)
{
    const int32_t sign = sum < 0 ? -1 : 0;
    const int place_bits = n > 1 ? 64 - __builtin_clzll(n - 1) : 0;
    size_t wanted = wanted_avx2(sum), above = 0;
    int32_t keys[HITS + 8];
    int32_t low = 0, high = top; /* `above` ranks, no more than wanted, are > high; more > low */
    while (wanted > above && high - low > 1) {
        const int32_t middle = !gap ? low + (high - low) / 2 : gap < top ? top - gap : 0;
        size_t count = HITS + 1;
        if (wanted <= HITS / 2 && (int64_t)(top - middle) << place_bits < INT32_MAX)
            count = find_above_avx2(shifted, n, sign, middle, place_bits, keys);
        if (wanted <= count && count <= HITS) {
            move_largest_avx2(keys, count, place_bits, place, sign, wanted, codes);
            return;
        }
        if (count > HITS)
            count = count_above_avx2(shifted, n, sign, middle);
        if (count > wanted) {
            low = middle;
            gap = 0;
            continue;
        }
        high = middle;
        above = count;
        if (high == 0)
            wanted = above;
        gap = gap < top / 2 ? 2 * gap : gap ? top : 0;
    }
    move_many_avx2(shifted, place, n, sign, high, wanted - above, codes);
}

/* Stage E, and C with every code a candidate. */
AVX2 static void flat_row_avx2(const float *x, size_t n, const struct grid *grid,
                               int32_t zero_point, int stage_c, int32_t *shifted, uint8_t *codes)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i += CHUNK)
        sum += round_row_avx2(x + i, n - i < CHUNK ? n - i : CHUNK, grid, zero_point, shifted + i,
                              codes + i);
    const size_t wanted = wanted_avx2(sum);
    if (!stage_c || wanted == 0)
        return;
    /* Errors of one sign spread evenly over half a step: so many of n / 2 values lie in the gap. */
    const size_t hits = wanted + wanted / 2 + 6;
    const int32_t gap = hits < n / 2 ? (int32_t)((uint64_t)ONE * hits / n) : ONE;
    flip_row_avx2(shifted, NULL, n, sum, ONE / 2 + 1, gap, codes);
}

#define TURN(BY, LANES)                                                                            \
    for (int j = 0; j < 9; j++)                                                                    \
        turned[j] = _mm256_blend_ps(v[j], v[(j + 9 - BY) % 9], LANES);                             \
    for (int j = 0; j < 9; j++)                                                                    \
        v[j] = turned[j];

/* Column j of 8 kernels over the scale: lane k gets x[9 * k + j] / scale. Value 8 * a + p of the
 * 72 is in column 8 * a + p (mod 9): in lane p the columns are the registers backwards, turned by
 * p. Turning by 1, 2 and 4 where p has that bit leaves each value j lanes from where it belongs. */
AVX2 static inline void divide9_avx2(const float *x, size_t n, const struct grid *grid, __m256 *u)
{
    __m256 v[9], turned[9];
    for (size_t j = 0; j < 9; j++) {
        const size_t at = 8 * ((9 - j) % 9);
        v[j] = n >= 72  ? _mm256_loadu_ps(x + at)
               : n > at ? _mm256_maskload_ps(x + at, first_avx2(n - at))
                        : _mm256_setzero_ps();
    }
    TURN(1, 0xAA)
    TURN(2, 0xCC)
    TURN(4, 0xF0)
    for (int j = 0; j < 9; j++) {
        const __m256i lane = _mm256_add_epi32(lanes_avx2(), _mm256_set1_epi32(j));
        u[j] = _mm256_div_ps(_mm256_permutevar8x32_ps(v[j], lane), grid->scale);
    }
}

/* The sums of errors of 8 kernels with values outside the grid, to +-16 steps: beyond them all
 * that may move does. Adds what that leaves out to `beyond`. */
AVX2 __attribute__((noinline)) static __m256i far9_avx2(__m256i sum, const __m256 *u,
                                                        const struct grid *grid, int64_t *beyond)
{
    int32_t near[8], error[8];
    int64_t whole[8];
    _mm256_storeu_si256((__m256i *)near, sum);
    for (size_t k = 0; k < 8; k++)
        whole[k] = near[k];
    for (size_t j = 0; j < 9; j++) {
        _mm256_storeu_si256((__m256i *)error, outside_avx2(u[j], grid));
        for (size_t k = 0; k < 8; k++)
            whole[k] += error[k];
    }
    for (size_t k = 0; k < 8; k++) {
        const int64_t limit = (int64_t)16 * ONE;
        near[k] = (int32_t)(whole[k] < -limit ? -limit : whole[k] > limit ? limit : whole[k]);
        *beyond += whole[k] - near[k];
    }
    return _mm256_loadu_si256((const __m256i *)near);
}

struct flips { /* on 8 kernels */
    __m256i key;   /* of the last code that moves; the largest number where none does */
    __m256i moved; /* how many */
    __m256i next;  /* the key of the candidate for stage C; 0 for none */
};

/* Keys are |error| * 16 + 15 - position for what may move, and below 16 for the others. */
AVX2 static inline struct flips flips9_avx2(const __m256i *keys, __m256i size)
{
    const __m256i one = _mm256_set1_epi32(1), none = _mm256_set1_epi32(15);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(size, 20), one);
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(ONE / 2 - 1));
    const __m256i wanted = _mm256_srli_epi32(_mm256_add_epi32(size, half), 20);
    const __m256i needed =
        _mm256_srli_epi32(_mm256_add_epi32(size, _mm256_set1_epi32(ONE - 1)), 20);
    struct flips flips = {_mm256_set1_epi32(INT32_MAX), _mm256_setzero_si256(),
                          _mm256_setzero_si256()};
    __m256i best = keys[0], exists = _mm256_set1_epi32(-1);
    for (int j = 1; j < 9; j++)
        best = _mm256_max_epi32(best, keys[j]);
    for (__m256i m = _mm256_setzero_si256();; m = _mm256_add_epi32(m, one)) {
        const __m256i look = _mm256_cmpgt_epi32(needed, m);
        if (_mm256_testz_si256(look, look))
            return flips;
        exists = _mm256_and_si256(exists, _mm256_cmpgt_epi32(best, none));
        const __m256i move = _mm256_and_si256(exists, _mm256_cmpgt_epi32(wanted, m));
        flips.next = _mm256_blendv_epi8(flips.next, _mm256_and_si256(exists, best), look);
        flips.key = _mm256_blendv_epi8(flips.key, best, move);
        flips.moved = _mm256_sub_epi32(flips.moved, move);

        /* key - best wraps where key is smaller: the largest is next, 0 the end of all. */
        __m256i below = _mm256_sub_epi32(_mm256_setzero_si256(), best);
        for (int j = 0; j < 9; j++)
            below = _mm256_max_epu32(below, _mm256_sub_epi32(keys[j], best));
        best = _mm256_add_epi32(below, best);
    }
}

/* Which byte of columns 0 to 3, of 4 to 7, and of 8 goes into byte i of 4 kernels; 0x80 for none.
 * Both halves of a register do the same. */
AVX2 static inline void order9_avx2(__m256i (*order)[3])
{
    for (size_t out = 0; out < 3; out++)
        for (size_t source = 0; source < 3; source++) {
            uint8_t index[16];
            for (size_t i = 0; i < 16; i++) {
                const size_t byte = 16 * out + i, k = byte / 9, j = byte % 9;
                index[i] = byte < 36 && j / 4 == source ? (uint8_t)(4 * k + j % 4) : 0x80;
            }
            order[out][source] =
                _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)index));
        }
}

/* Low bytes of four columns, side by side in each lane. */
AVX2 static inline __m256i join_avx2(const __m256i *steps)
{
    const __m256i byte = _mm256_set1_epi32(0xFF);
    const __m256i a = _mm256_and_si256(steps[0], byte), b = _mm256_and_si256(steps[1], byte);
    const __m256i c = _mm256_and_si256(steps[2], byte), d = _mm256_slli_epi32(steps[3], 24);
    return _mm256_or_si256(_mm256_or_si256(a, _mm256_slli_epi32(b, 8)),
                           _mm256_or_si256(_mm256_slli_epi32(c, 16), d));
}

AVX2 static inline void store9_avx2(const __m256i *steps, int32_t zero_point,
                                    __m256i (*order)[3], uint8_t *codes)
{
    const __m256i source[3] = {join_avx2(steps), join_avx2(steps + 4), steps[8]};
    for (size_t out = 0; out < 3; out++) {
        const __m256i bytes =
            _mm256_or_si256(_mm256_or_si256(_mm256_shuffle_epi8(source[0], order[out][0]),
                                            _mm256_shuffle_epi8(source[1], order[out][1])),
                            _mm256_shuffle_epi8(source[2], order[out][2]));
        const __m256i sum = _mm256_add_epi8(bytes, _mm256_set1_epi8((char)zero_point));
        const __m128i low = _mm256_castsi256_si128(sum), high = _mm256_extracti128_si256(sum, 1);
        if (out < 2) {
            _mm_storeu_si128((__m128i *)(codes + 16 * out), low);
            _mm_storeu_si128((__m128i *)(codes + 36 + 16 * out), high);
        } else {
            const int ends[2] = {_mm_cvtsi128_si32(low), _mm_cvtsi128_si32(high)};
            memcpy(codes + 32, &ends[0], 4);
            memcpy(codes + 68, &ends[1], 4);
        }
    }
}

/* Stages E and K on up to 8 kernels of 9, x / scale being in u. Returns the sum of errors that is
 * left, and for each kernel the shifted error and the place of its candidate. */
AVX2 static inline int64_t group9_avx2(const __m256 *u, size_t n, const struct grid *grid,
                                       int32_t zero_point, __m256i (*order)[3], size_t start,
                                       int32_t *shifted, int32_t *place, uint8_t *codes)
{
    __m256i steps[9], keys[9], outside = _mm256_setzero_si256();
    __m256i sum = _mm256_set1_epi32((int32_t)(0u - 9u * (uint32_t)ZERO));
    for (int j = 0; j < 9; j++) {
        steps[j] = round_avx2(u[j], grid, &keys[j], &outside);
        sum = _mm256_add_epi32(sum, keys[j]);
    }
    int64_t beyond = 0;
    if (!_mm256_testz_si256(outside, outside))
        sum = far9_avx2(sum, u, grid, &beyond);

    const __m256i sign = _mm256_srai_epi32(sum, 31), size = _mm256_abs_epi32(sum);
    for (int j = 0; j < 9; j++) {
        const __m256i error = _mm256_sub_epi32(keys[j], _mm256_set1_epi32(ZERO));
        const __m256i rank = _mm256_sub_epi32(_mm256_xor_si256(error, sign), sign);
        keys[j] = _mm256_or_si256(_mm256_slli_epi32(rank, 4), _mm256_set1_epi32(15 - j));
    }
    const struct flips flips = flips9_avx2(keys, size);
    const __m256i step = _mm256_xor_si256(_mm256_slli_epi32(sign, 1), _mm256_set1_epi32(-1));
    for (int j = 0; j < 9; j++) {
        const __m256i stays = _mm256_cmpgt_epi32(flips.key, keys[j]);
        steps[j] = _mm256_add_epi32(steps[j], _mm256_andnot_si256(stays, step));
    }
    if (n == 72) {
        store9_avx2(steps, zero_point, order, codes);
    } else {
        uint8_t all[72];
        store9_avx2(steps, zero_point, order, all);
        memcpy(codes, all, n);
    }

    /* A code moved too far may move back: its error is now that less a step. */
    const __m256i left = _mm256_sub_epi32(size, _mm256_slli_epi32(flips.moved, 20));
    const __m256i over = _mm256_cmpgt_epi32(_mm256_set1_epi32(1), left);
    const __m256i rank = _mm256_sub_epi32(_mm256_srli_epi32(flips.next, 4),
                                          _mm256_and_si256(over, _mm256_set1_epi32(ONE)));
    const __m256i signed_rank = _mm256_sub_epi32(_mm256_xor_si256(rank, sign), sign);
    const __m256i none = _mm256_cmpeq_epi32(flips.next, _mm256_setzero_si256());
    const __m256i error = _mm256_add_epi32(_mm256_andnot_si256(none, signed_rank),
                                           _mm256_set1_epi32(ZERO));
    const __m256i last = _mm256_add_epi32(
        _mm256_setr_epi32(0, 9, 18, 27, 36, 45, 54, 63), _mm256_set1_epi32((int32_t)start + 15));
    const __m256i at =
        _mm256_sub_epi32(last, _mm256_and_si256(flips.next, _mm256_set1_epi32(15)));
    _mm256_maskstore_epi32(shifted, first_avx2(n / 9), error);
    _mm256_maskstore_epi32(place, first_avx2(n / 9), at);
    return beyond + sum_avx2(_mm256_sub_epi32(_mm256_xor_si256(left, sign), sign));
}

AVX2 static void row9_avx2(const float *x, size_t kernels, const struct grid *grid,
                           int32_t zero_point, __m256i (*order)[3], int stage_c, int32_t *scratch,
                           uint8_t *codes)
{
    int32_t *place = scratch + kernels;
    int64_t sum = 0;
    __m256 u[9];
    for (size_t k = 0; k < kernels; k += 8) {
        const size_t some = kernels - k < 8 ? kernels - k : 8;
        divide9_avx2(x + 9 * k, 9 * some, grid, u);
        sum += group9_avx2(u, 9 * some, grid, zero_point, order, 9 * k, scratch + k, place + k,
                           codes + 9 * k);
    }
    if (stage_c)
        flip_row_avx2(scratch, place, kernels, sum, ONE, kernels > HITS ? ONE * 7 / 16 : ONE,
                      codes);
}

AVX2 void qsdk_squant_avx2(const float *x, size_t rows, size_t kernels, size_t kernel_size,
                           const float *scale, const int32_t *zero_point, int32_t qmin,
                           int32_t qmax, int stage_k, int stage_c, int32_t *error, uint8_t *codes)
{
    const size_t length = kernels * kernel_size;
    const int whole = stage_k && kernel_size > 1;
    if (whole && (kernel_size != 9 || kernels < 4)) {
        qsdk_squant_portable(x, rows, kernels, kernel_size, scale, zero_point, qmin, qmax, stage_k,
                             stage_c, error, codes);
        return;
    }
    __m256i order[3][3];
    order9_avx2(order);
    for (size_t r = 0; r < rows; r++, x += length, codes += length) {
        const struct grid grid = grid_avx2(scale[r], zero_point[r], qmin, qmax);
        if (whole)
            row9_avx2(x, kernels, &grid, zero_point[r], order, stage_c, error, codes);
        else
            flat_row_avx2(x, length, &grid, zero_point[r], stage_c, error, codes);
    }
}
#endif
