/* SQuant, 16 values at a time; limited by the division and by about two operations a cycle.
 *
 * Rounding splits the error. A value on the grid's range has |error| <= 1/2, and its code may move
 * towards it; one outside has the error of its distance, and its code stays. The first kind alone
 * are candidates, so that no code needs a look at the limits, and their sums fit 32 bits. They are
 * kept as `shifted`, the bits of 12 + error: a float beside 12 has 2^-20 as its last bit, so the
 * addition is the rounding to 2^-20, and the bits count in that unit.
 *
 * Stage K on 3x3 kernels: one kernel in each lane, its nine values in nine registers. Other kernels
 * lie along the registers. Stage C looks for a threshold that few pass, then for the last of those
 * that move, as stage K does: a key holds error and position, and keys are taken in turn. */
#include "arrays.h"

#ifdef QSDK_X86_ARRAYS
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,bmi,popcnt")))
#define ONE ((int32_t)1 << 20)
#define ZERO 0x41400000 /* the bits of 12.0f, which shifted errors count from */
#define CHUNK 32768 /* values whose errors, 16 sums of them, fit 32 bits */
#define HITS 64 /* values past the threshold of stage C that are looked at one by one */
#define LARGEST_KERNEL 256

struct grid {
    __m512 scale, low, high;
};

AVX512 static inline struct grid grid_avx512(float scale, int32_t zero_point, int32_t qmin,
                                             int32_t qmax)
{
    const struct grid grid = {_mm512_set1_ps(scale), _mm512_set1_ps((float)(qmin - zero_point)),
                              _mm512_set1_ps((float)(qmax - zero_point))};
    return grid;
}

/* The steps, in the low byte of each lane. Bits of outside become 1 where u is off the grid. */
AVX512 static inline __m512i round_avx512(__m512 u, const struct grid *grid, __m512i *shifted,
                                          __m512i *outside)
{
    const __m512 held = _mm512_min_ps(_mm512_max_ps(u, grid->low), grid->high);
    *outside = _mm512_ternarylogic_epi32(*outside, _mm512_castps_si512(u),
                                         _mm512_castps_si512(held), 0xF6); /* a | (b ^ c) */
    const __m512 shift = _mm512_set1_ps(0x1.8p23f);
    const __m512 steps = _mm512_add_ps(held, shift);
    const __m512 error = _mm512_sub_ps(_mm512_sub_ps(steps, shift), held);
    *shifted = _mm512_castps_si512(_mm512_add_ps(error, _mm512_set1_ps(12)));
    return _mm512_castps_si512(steps);
}

/* The errors of the values that are outside, 0 for the others. */
AVX512 static inline __m512i outside_avx512(__m512 x, const struct grid *grid)
{
    const __m512 reach = _mm512_set1_ps(QSDK_REACH);
    __m512 u = _mm512_div_ps(x, grid->scale);
    u = _mm512_max_ps(u, _mm512_sub_ps(grid->low, reach));
    u = _mm512_min_ps(u, _mm512_add_ps(grid->high, reach));
    const __m512 held = _mm512_min_ps(_mm512_max_ps(u, grid->low), grid->high);
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(held, u), _mm512_set1_ps((float)ONE)));
}

AVX512 static inline int64_t sum_avx512(__m512i values)
{
    return _mm512_reduce_add_epi64(
        _mm512_add_epi64(_mm512_cvtepi32_epi64(_mm512_castsi512_si256(values)),
                         _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(values, 1))));
}

AVX512 static inline __mmask16 first_avx512(size_t n)
{
    return n < 16 ? (__mmask16)((1u << n) - 1) : (__mmask16)0xFFFF;
}

AVX512 __attribute__((noinline)) static int64_t outside_sum_avx512(const float *x, size_t n,
                                                                   const struct grid *grid)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i += 16)
        sum += sum_avx512(
            outside_avx512(_mm512_maskz_loadu_ps(first_avx512(n - i), x + i), grid));
    return sum;
}

/* Stage E on up to CHUNK values: returns the sum of the errors. */
AVX512 static int64_t round_row_avx512(const float *x, size_t n, const struct grid *grid,
                                       int32_t zero_point, int32_t *shifted, uint8_t *codes)
{
    const __m512i zero_points = _mm512_set1_epi8((char)zero_point);
    __m512i sums = _mm512_setzero_si512();
    int64_t far = 0;
    const __m512i even = _mm512_setr_epi32( /* byte 0 of each lane of two registers */
        0x0C080400, 0x1C181410, 0x2C282420, 0x3C383430, 0x4C484440, 0x5C585450, 0x6C686460,
        0x7C787470, 0, 0, 0, 0, 0, 0, 0, 0);
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        __m512i steps[4], error, outside = _mm512_setzero_si512();
        for (int k = 0; k < 4; k++) {
            const __m512 u = _mm512_div_ps(_mm512_loadu_ps(x + i + 16 * k), grid->scale);
            steps[k] = round_avx512(u, grid, &error, &outside);
            sums = _mm512_add_epi32(sums, error);
            _mm512_storeu_si512(shifted + i + 16 * k, error);
        }
        if (_mm512_test_epi32_mask(outside, outside))
            far += outside_sum_avx512(x + i, 64, grid);
        const __m512i low = _mm512_permutex2var_epi8(steps[0], even, steps[1]);
        const __m512i high = _mm512_permutex2var_epi8(steps[2], even, steps[3]);
        const __m512i bytes = _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1);
        _mm512_storeu_si512(codes + i, _mm512_add_epi8(bytes, zero_points));
    }
    for (; i < n; i += 16) {
        const __mmask16 some = first_avx512(n - i);
        __m512i error, outside = _mm512_setzero_si512();
        const __m512 u = _mm512_div_ps(_mm512_maskz_loadu_ps(some, x + i), grid->scale);
        const __m512i steps = round_avx512(u, grid, &error, &outside);
        sums = _mm512_add_epi32(sums, error);
        _mm512_mask_storeu_epi32(shifted + i, some, error);
        _mm_mask_storeu_epi8(codes + i, some,
                             _mm_add_epi8(_mm512_cvtepi32_epi8(steps),
                                          _mm512_castsi512_si128(zero_points)));
        if (_mm512_test_epi32_mask(outside, outside))
            far += outside_sum_avx512(x + i, n - i < 16 ? n - i : 16, grid);
    }
    const int32_t added = (int32_t)((uint32_t)ZERO * (uint32_t)(i / 16));
    return far + sum_avx512(_mm512_sub_epi32(sums, _mm512_set1_epi32(added)));
}

AVX512 static int64_t round_long_avx512(const float *x, size_t n, const struct grid *grid,
                                        int32_t zero_point, int32_t *shifted, uint8_t *codes)
{
    int64_t sum = 0;
    for (size_t i = 0; i < n; i += CHUNK)
        sum += round_row_avx512(x + i, n - i < CHUNK ? n - i : CHUNK, grid, zero_point,
                                shifted + i, codes + i);
    return sum;
}

/* rne(|sum| / ONE) */
static inline size_t wanted_avx512(int64_t sum)
{
    const uint64_t size = sum < 0 ? 0 - (uint64_t)sum : (uint64_t)sum;
    return (size_t)((size + ONE / 2 - 1 + (size >> 20) % 2) >> 20);
}

/* Whose rank is above the threshold, of 64 values or the first n: shifted ^ sign counts from
 * ZERO ^ sign, upwards. */
AVX512 static inline uint64_t above_avx512(const int32_t *shifted, size_t n, __m512i sign,
                                           __m512i threshold)
{
    uint64_t above = 0;
    for (size_t i = 0; i < 64; i += 16) {
        if (n < 64 && n <= i)
            break;
        const __mmask16 some = n < 64 ? first_avx512(n - i) : (__mmask16)0xFFFF;
        const __m512i value =
            _mm512_xor_si512(_mm512_maskz_loadu_epi32(some, shifted + i), sign);
        above |= (uint64_t)_mm512_mask_cmpgt_epi32_mask(some, value, threshold) << i;
    }
    return above;
}

/* The keys of values whose rank is above the threshold: by how much, then after how many others
 * of the row, in place_bits. Returns how many, or more than HITS; 16 more may be written. */
AVX512 static size_t find_above_avx512(const int32_t *shifted, size_t n, int32_t sign,
                                       int32_t threshold, int place_bits, int32_t *keys)
{
    const __m512i signs = _mm512_set1_epi32(sign);
    const __m512i limit = _mm512_set1_epi32((ZERO ^ sign) - sign + threshold + sign);
    __m512i after = _mm512_sub_epi32(
        _mm512_set1_epi32((1 << place_bits) - 1),
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    size_t found = 0;
    for (size_t i = 0; i < n && found <= HITS; i += 16) {
        const __mmask16 some = first_avx512(n - i);
        const __m512i value = _mm512_maskz_loadu_epi32(some, shifted + i);
        const __m512i excess = _mm512_sub_epi32(_mm512_xor_si512(value, signs), limit);
        const __mmask16 above =
            _mm512_mask_cmpgt_epi32_mask(some, excess, _mm512_setzero_si512());
        const __m512i key = _mm512_or_si512(_mm512_slli_epi32(excess, (unsigned)place_bits), after);
        _mm512_storeu_si512(keys + found, _mm512_maskz_compress_epi32(above, key));
        found += (size_t)__builtin_popcount(above);
        after = _mm512_sub_epi32(after, _mm512_set1_epi32(16));
    }
    return found;
}

AVX512 static size_t count_above_avx512(const int32_t *shifted, size_t n, int32_t sign,
                                        int32_t threshold)
{
    const __m512i signs = _mm512_set1_epi32(sign);
    const __m512i limit = _mm512_set1_epi32((ZERO ^ sign) + threshold);
    size_t count = 0;
    for (size_t i = 0; i < n; i += 64)
        count += (size_t)__builtin_popcountll(above_avx512(shifted + i, n - i, signs, limit));
    return count;
}

static inline void move_avx512(uint8_t *codes, const int32_t *place, size_t i, int32_t sign)
{
    uint8_t *code = codes + (place ? (size_t)place[i] : i);
    *code = (uint8_t)(*code + (sign < 0 ? 1 : -1));
}

/* Moves those of at most HITS values whose keys are among the `wanted` largest. */
AVX512 static void move_largest_avx512(int32_t *keys, size_t found, int place_bits,
                                       const int32_t *place, int32_t sign, size_t wanted,
                                       uint8_t *codes)
{
    const __m512i last = _mm512_set1_epi32((1 << place_bits) - 1);
    int32_t moved[HITS + 16];
    size_t moving = 0;
    for (size_t i = 0; i < found; i += 16) {
        const __m512i some = _mm512_loadu_si512(keys + i);
        __m512i larger = _mm512_setzero_si512(); /* how many keys are */
        for (size_t h = 0; h < found; h++)
            larger = _mm512_mask_add_epi32(
                larger, _mm512_cmpgt_epi32_mask(_mm512_set1_epi32(keys[h]), some), larger,
                _mm512_set1_epi32(1));
        const __mmask16 move = _mm512_mask_cmplt_epi32_mask(
            first_avx512(found - i), larger, _mm512_set1_epi32((int32_t)wanted));
        const __m512i position = _mm512_andnot_si512(some, last);
        _mm512_storeu_si512(moved + moving, _mm512_maskz_compress_epi32(move, position));
        moving += (size_t)__builtin_popcount(move);
    }
    for (size_t m = 0; m < moving; m++)
        move_avx512(codes, place, (size_t)moved[m], sign);
}

static void move_many_avx512(const int32_t *shifted, const int32_t *place, size_t n, int32_t sign,
                             int32_t high, size_t equal, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++) {
        const int32_t error = shifted[i] - ZERO;
        const int32_t rank = sign < 0 ? -error : error;
        if (rank < high || (rank == high && equal == 0))
            continue;
        equal -= rank == high;
        move_avx512(codes, place, i, sign);
    }
}

/* The flip step of stage C. Ranks are less than top; gap guesses how far below it to look. */
AVX512 static void flip_row_avx512(const int32_t *shifted, const int32_t *place, size_t n,
                                   int64_t sum, int32_t top, int32_t gap, uint8_t *codes)
{
    const int32_t sign = sum < 0 ? -1 : 0;
    size_t wanted = wanted_avx512(sum), above = 0;
    int32_t keys[HITS + 16];
    const int place_bits = n > 1 ? 64 - __builtin_clzll(n - 1) : 0;
    int32_t low = 0, high = top; /* `above` ranks, no more than wanted, are > high; more > low */
    while (wanted > above && high - low > 1) {
        const int32_t middle = !gap ? low + (high - low) / 2 : gap < top ? top - gap : 0;
        size_t count = HITS + 1;
        if (wanted <= HITS / 2 && (int64_t)(top - middle) << place_bits < INT32_MAX)
            count = find_above_avx512(shifted, n, sign, middle, place_bits, keys);
        if (wanted <= count && count <= HITS) {
            move_largest_avx512(keys, count, place_bits, place, sign, wanted, codes);
            return;
        }
        if (count > HITS)
            count = count_above_avx512(shifted, n, sign, middle);
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
    move_many_avx512(shifted, place, n, sign, high, wanted - above, codes);
}

/* Stage E, and C with every code a candidate. */
AVX512 static void flat_row_avx512(const float *x, size_t n, const struct grid *grid,
                                   int32_t zero_point, int stage_c, int32_t *shifted,
                                   uint8_t *codes)
{
    const int64_t sum = round_long_avx512(x, n, grid, zero_point, shifted, codes);
    const size_t wanted = wanted_avx512(sum);
    if (!stage_c || wanted == 0)
        return;
    /* Errors of one sign spread evenly over half a step: so many of n / 2 values lie in the gap. */
    const size_t hits = wanted + wanted / 2 + 6;
    const int32_t gap = hits < n / 2 ? (int32_t)((uint64_t)ONE * hits / n) : ONE;
    flip_row_avx512(shifted, NULL, n, sum, ONE / 2 + 1, gap, codes);
}

#define ROTATE(BY, LANES)                                                                          \
    for (int j = 0; j < 9; j++)                                                                    \
        turned[j] = _mm512_mask_mov_ps(v[j], LANES, v[(j + 9 - BY) % 9]);                          \
    for (int j = 0; j < 9; j++)                                                                    \
        v[j] = turned[j];

/* Column j of 16 kernels: lane 9 * k % 16 gets x[9 * k + j]. Value 16 * a + p of the 144 is in
 * column 16 * a + p (mod 9), so that in each lane p the columns are the registers in another
 * order, turned by p % 9. Turning by 1, 2, 4 and 8 where p % 9 has that bit leaves each value in
 * its lane but for the distance j. */
AVX512 static inline void columns9_avx512(const float *x, size_t n, __m512 *column)
{
    __m512 v[9], turned[9];
    for (int j = 0; j < 9; j++) {
        const size_t a = (size_t)(4 * j % 9);
        v[j] = n >= 144 ? _mm512_loadu_ps(x + 16 * a)
                        : n > 16 * a ? _mm512_maskz_loadu_ps(first_avx512(n - 16 * a), x + 16 * a)
                                     : _mm512_setzero_ps();
    }
    ROTATE(1, 0x54AA)
    ROTATE(2, 0x98CC)
    ROTATE(4, 0xE0F0)
    ROTATE(8, 0x0100)
#define ALIGN(J)                                                                                   \
    column[J] = _mm512_castsi512_ps(                                                               \
        _mm512_alignr_epi32(_mm512_castps_si512(v[J]), _mm512_castps_si512(v[J]), J))
    ALIGN(0), ALIGN(1), ALIGN(2), ALIGN(3), ALIGN(4), ALIGN(5), ALIGN(6), ALIGN(7), ALIGN(8);
#undef ALIGN
}

/* The sums of errors of 16 kernels with values outside the grid, to +-16 steps: beyond them all
 * that may move does. Adds what that leaves out to `beyond`. */
AVX512 __attribute__((noinline)) static __m512i far9_avx512(__m512i sum, const float *x, size_t n,
                                                            const struct grid *grid,
                                                            int64_t *beyond)
{
    const __m512i limit = _mm512_set1_epi64((int64_t)16 * ONE);
    const __m512i minus = _mm512_set1_epi64((int64_t)-16 * ONE);
    __m512i low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum));
    __m512i high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(sum, 1));
    __m512 column[9];
    columns9_avx512(x, n, column);
    for (int j = 0; j < 9; j++) {
        const __m512i error = outside_avx512(column[j], grid);
        low = _mm512_add_epi64(low, _mm512_cvtepi32_epi64(_mm512_castsi512_si256(error)));
        high = _mm512_add_epi64(high, _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(error, 1)));
    }
    const __m512i near_low = _mm512_min_epi64(_mm512_max_epi64(low, minus), limit);
    const __m512i near_high = _mm512_min_epi64(_mm512_max_epi64(high, minus), limit);
    *beyond += _mm512_reduce_add_epi64(_mm512_add_epi64(_mm512_sub_epi64(low, near_low),
                                                        _mm512_sub_epi64(high, near_high)));
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi64_epi32(near_low)),
                              _mm512_cvtepi64_epi32(near_high), 1);
}

/* Low bytes of four columns, side by side in each lane. */
AVX512 static inline __m512i join_avx512(const __m512i *steps)
{
    const __m512i byte = _mm512_set1_epi16(0xFF);
    const __m512i low = /* byte ? a : b */
        _mm512_ternarylogic_epi32(byte, steps[0], _mm512_slli_epi32(steps[1], 8), 0xCA);
    const __m512i high =
        _mm512_ternarylogic_epi32(byte, steps[2], _mm512_slli_epi32(steps[3], 8), 0xCA);
    return _mm512_mask_blend_epi16(0xAAAAAAAA, low, _mm512_slli_epi32(high, 16));
}

/* Where byte i of 16 kernels lies in two joined registers, or in the ninth column. */
AVX512 static inline void order9_avx512(__m512i *order, __mmask64 *ninth)
{
    uint8_t index[192] = {0};
    for (size_t i = 0; i < 144; i++) {
        const size_t lane = 9 * (i / 9) % 16, j = i % 9;
        index[i] = (uint8_t)(4 * lane + j % 4 + (j / 4 == 1 ? 64 : 0));
    }
    for (size_t k = 0; k < 3; k++) {
        order[k] = _mm512_loadu_si512(index + 64 * k);
        ninth[k] = 0;
    }
    for (size_t i = 8; i < 144; i += 9)
        ninth[i / 64] |= (__mmask64)1 << i % 64;
}

AVX512 static inline __mmask64 bytes_avx512(size_t n)
{
    return n < 64 ? ((__mmask64)1 << n) - 1 : ~(__mmask64)0;
}

AVX512 static inline void store9_avx512(const __m512i *steps, int32_t zero_point,
                                        const __m512i *order, const __mmask64 *ninth, size_t n,
                                        uint8_t *codes)
{
    const __m512i a = join_avx512(steps), b = join_avx512(steps + 4);
    for (size_t k = 0; k < 3 && 64 * k < n; k++) {
        __m512i bytes = _mm512_permutex2var_epi8(a, order[k], b);
        bytes = _mm512_mask_permutexvar_epi8(bytes, ninth[k], order[k], steps[8]);
        bytes = _mm512_add_epi8(bytes, _mm512_set1_epi8((char)zero_point));
        _mm512_mask_storeu_epi8(codes + 64 * k, bytes_avx512(n - 64 * k), bytes);
    }
}

struct flips { /* on 16 kernels */
    __m512i key;   /* of the last code that moves; the largest number where none does */
    __m512i moved; /* how many */
    __m512i next;  /* the key of the candidate for stage C; 0 for none */
};

/* Keys are |error| * 16 + 15 - position for what may move, and below 16 for the others. */
AVX512 static inline struct flips flips9_avx512(const __m512i *keys, __m512i size)
{
    const __m512i one = _mm512_set1_epi32(1), none = _mm512_set1_epi32(15);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(size, 20), one);
    const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(ONE / 2 - 1));
    const __m512i wanted = _mm512_srli_epi32(_mm512_add_epi32(size, half), 20);
    const __m512i needed =
        _mm512_srli_epi32(_mm512_add_epi32(size, _mm512_set1_epi32(ONE - 1)), 20);
    struct flips flips = {_mm512_set1_epi32(INT32_MAX), _mm512_setzero_si512(),
                          _mm512_setzero_si512()};
    __m512i best = keys[0];
    for (int j = 1; j < 9; j++)
        best = _mm512_max_epi32(best, keys[j]);
    __mmask16 exists = 0xFFFF;
    for (__m512i m = one;; m = _mm512_add_epi32(m, one)) {
        const __mmask16 look = _mm512_cmple_epi32_mask(m, needed);
        if (!look)
            return flips;
        exists = _mm512_mask_cmpgt_epi32_mask(exists, best, none);
        const __mmask16 move = _mm512_mask_cmple_epi32_mask(exists, m, wanted);
        flips.next = _mm512_mask_mov_epi32(flips.next, look, _mm512_maskz_mov_epi32(exists, best));
        flips.key = _mm512_mask_mov_epi32(flips.key, move, best);
        flips.moved = _mm512_mask_add_epi32(flips.moved, move, flips.moved, one);

        /* key - best wraps where key is smaller: the largest is next, 0 the end of all. */
        __m512i below = _mm512_sub_epi32(_mm512_setzero_si512(), best);
        for (int j = 0; j < 9; j++)
            below = _mm512_max_epu32(below, _mm512_sub_epi32(keys[j], best));
        best = _mm512_add_epi32(below, best);
    }
}

AVX512 static inline void divide9_avx512(const float *x, size_t n, const struct grid *grid,
                                         __m512 *u)
{
    columns9_avx512(x, n, u);
    for (int j = 0; j < 9; j++)
        u[j] = _mm512_div_ps(u[j], grid->scale);
}

/* Stages E and K on up to 16 kernels of 9, x / scale being in u. Returns the sum of errors that is left, and for each
 * kernel the shifted error and the place of its candidate. */
AVX512 static inline int64_t group9_avx512(const float *x, const __m512 *u, size_t n,
                                           const struct grid *grid,
                                           int32_t zero_point, const __m512i *order,
                                           const __mmask64 *ninth, size_t start, int32_t *shifted,
                                           int32_t *place, uint8_t *codes)
{
    __m512i steps[9], keys[9], outside = _mm512_setzero_si512();
    __m512i sum = _mm512_set1_epi32((int32_t)(0u - 9u * (uint32_t)ZERO));
    for (int j = 0; j < 9; j++) {
        steps[j] = round_avx512(u[j], grid, &keys[j], &outside);
        sum = _mm512_add_epi32(sum, keys[j]);
    }
    int64_t beyond = 0;
    if (_mm512_test_epi32_mask(outside, outside))
        sum = far9_avx512(sum, x, n, grid, &beyond);

    const __m512i sign = _mm512_srai_epi32(sum, 31), size = _mm512_abs_epi32(sum);
    for (int j = 0; j < 9; j++) {
        const __m512i error = _mm512_sub_epi32(keys[j], _mm512_set1_epi32(ZERO));
        const __m512i rank = _mm512_sub_epi32(_mm512_xor_si512(error, sign), sign);
        keys[j] = _mm512_or_si512(_mm512_slli_epi32(rank, 4), _mm512_set1_epi32(15 - j));
    }
    const struct flips flips = flips9_avx512(keys, size);
    const __m512i step = _mm512_xor_si512(_mm512_slli_epi32(sign, 1), _mm512_set1_epi32(-1));
    for (int j = 0; j < 9; j++)
        steps[j] = _mm512_mask_add_epi32(
            steps[j], _mm512_cmpge_epi32_mask(keys[j], flips.key), steps[j], step);
    store9_avx512(steps, zero_point, order, ninth, n, codes);

    /* A code moved too far may move back: its error is now that less a step. */
    const __m512i left = _mm512_sub_epi32(size, _mm512_slli_epi32(flips.moved, 20));
    const __mmask16 over = _mm512_cmple_epi32_mask(left, _mm512_setzero_si512());
    const __m512i rank = _mm512_srli_epi32(flips.next, 4);
    const __m512i size_of = _mm512_mask_sub_epi32(rank, over, rank, _mm512_set1_epi32(ONE));
    __m512i error = _mm512_sub_epi32(_mm512_xor_si512(size_of, sign), sign);
    error = _mm512_maskz_mov_epi32(_mm512_test_epi32_mask(flips.next, flips.next), error);
    const __m512i lanes = /* of kernels 0, 1, ... */
        _mm512_setr_epi32(0, 9, 2, 11, 4, 13, 6, 15, 8, 1, 10, 3, 12, 5, 14, 7);
    const __m512i first = _mm512_add_epi32(
        _mm512_set1_epi32((int32_t)start + 15),
        _mm512_setr_epi32(0, 9, 18, 27, 36, 45, 54, 63, 72, 81, 90, 99, 108, 117, 126, 135));
    const __m512i next = _mm512_permutexvar_epi32(lanes, flips.next);
    const __m512i last = _mm512_and_si512(next, _mm512_set1_epi32(15));
    error = _mm512_add_epi32(_mm512_permutexvar_epi32(lanes, error), _mm512_set1_epi32(ZERO));
    _mm512_mask_storeu_epi32(shifted, first_avx512(n / 9), error);
    _mm512_mask_storeu_epi32(place, first_avx512(n / 9), _mm512_sub_epi32(first, last));
    const __m512i sum_left = _mm512_sub_epi32(_mm512_xor_si512(left, sign), sign);
    return beyond + sum_avx512(sum_left);
}

AVX512 static void row9_avx512(const float *x, size_t kernels, const struct grid *grid,
                               int32_t zero_point, const __m512i *order, const __mmask64 *ninth,
                               int stage_c, int32_t *scratch, uint8_t *codes)
{
    int32_t *place = scratch + kernels;
    int64_t sum = 0;
    /* The divisions of the next kernels run beside the integer work on these. */
    __m512 u[2][9];
    divide9_avx512(x, 9 * kernels, grid, u[0]);
    for (size_t k = 0; k < kernels; k += 16) {
        const size_t some = kernels - k < 16 ? kernels - k : 16;
        if (k + 16 < kernels)
            divide9_avx512(x + 9 * (k + 16), 9 * (kernels - k - 16), grid, u[(k / 16 + 1) % 2]);
        sum += group9_avx512(x + 9 * k, u[k / 16 % 2], 9 * some, grid, zero_point, order, ninth, 9 * k,
                             scratch + k, place + k, codes + 9 * k);
    }
    if (stage_c)
        flip_row_avx512(scratch, place, kernels, sum, ONE, kernels > HITS ? ONE * 7 / 16 : ONE,
                        codes);
}

/* The largest key below another, of up to 16 * count keys; 0 if there is none. */
AVX512 static inline int32_t next_below_avx512(const __m512i *keys, size_t count, int32_t key)
{
    const __m512i minus = _mm512_set1_epi32(-key);
    __m512i best = minus; /* key - `key` wraps for smaller keys: the larger, the closer */
    for (size_t i = 0; i < count; i++)
        best = _mm512_max_epu32(best, _mm512_add_epi32(keys[i], minus));
    return (int32_t)_mm512_reduce_max_epu32(best) + key;
}

/* Stage K on one kernel; returns the sum of errors that is left. */
AVX512 static int64_t flip_kernel_avx512(const int32_t *errors, size_t n, int64_t sum,
                                         int32_t *shifted, int32_t *place, uint8_t *codes)
{
    const int32_t sign = sum < 0 ? -1 : 0;
    const __m512i signs = _mm512_set1_epi32(sign);
    const __m512i zero = _mm512_set1_epi32((ZERO ^ sign) - sign);
    __m512i keys[LARGEST_KERNEL / 16];
    __m512i after = _mm512_sub_epi32(
        _mm512_set1_epi32(LARGEST_KERNEL - 1),
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    const size_t registers = (n + 15) / 16;
    for (size_t i = 0; i < registers; i++) {
        const __mmask16 some = first_avx512(n - 16 * i);
        __m512i rank = _mm512_maskz_loadu_epi32(some, errors + 16 * i);
        rank = _mm512_sub_epi32(_mm512_sub_epi32(_mm512_xor_si512(rank, signs), signs), zero);
        keys[i] = _mm512_maskz_add_epi32(some, _mm512_slli_epi32(rank, 8), after);
        keys[i] = _mm512_max_epi32(keys[i], _mm512_setzero_si512());
        after = _mm512_sub_epi32(after, _mm512_set1_epi32(16));
    }

    const int64_t size = sum < 0 ? -sum : sum;
    const int64_t wanted = (int64_t)wanted_avx512(sum), needed = (size + ONE - 1) / ONE;
    int32_t next = INT32_MAX, last = INT32_MAX;
    int64_t left = size;
    for (int64_t m = 1; m <= needed && next >= LARGEST_KERNEL; m++) {
        next = next_below_avx512(keys, registers, next);
        if (m <= wanted && next >= LARGEST_KERNEL) {
            last = next;
            left -= ONE;
        }
    }
    for (size_t i = 0; i < registers; i++) {
        const __mmask16 some = _mm512_cmpge_epi32_mask(keys[i], _mm512_set1_epi32(last));
        const __m128i moved = _mm_add_epi8(_mm_maskz_loadu_epi8(some, codes + 16 * i),
                                           _mm_set1_epi8(sign < 0 ? 1 : -1));
        _mm_mask_storeu_epi8(codes + 16 * i, some, moved);
    }
    const int none = size == 0 || next < LARGEST_KERNEL;
    const int32_t error = none ? 0 : next / LARGEST_KERNEL - (left > 0 ? 0 : ONE);
    *shifted = ZERO + (sign < 0 ? -error : error);
    *place = none ? 0 : LARGEST_KERNEL - 1 - next % LARGEST_KERNEL;
    return sign < 0 ? -left : left;
}

AVX512 static void row_avx512(const float *x, size_t kernels, size_t kernel_size,
                              const struct grid *grid, int32_t zero_point, int stage_c,
                              int32_t *scratch, uint8_t *codes)
{
    int32_t errors[LARGEST_KERNEL], *place = scratch + kernels;
    int64_t sum = 0;
    for (size_t k = 0; k < kernels; k++) {
        const size_t start = k * kernel_size;
        const int64_t before =
            round_row_avx512(x + start, kernel_size, grid, zero_point, errors, codes + start);
        sum += flip_kernel_avx512(errors, kernel_size, before, scratch + k, place + k,
                                  codes + start);
        place[k] += (int32_t)start;
    }
    if (stage_c)
        flip_row_avx512(scratch, place, kernels, sum, ONE, kernels > HITS ? ONE * 7 / 16 : ONE,
                        codes);
}

AVX512 void qsdk_squant_avx512(const float *x, size_t rows, size_t kernels, size_t kernel_size,
                               const float *scale, const int32_t *zero_point, int32_t qmin,
                               int32_t qmax, int stage_k, int stage_c, int32_t *error,
                               uint8_t *codes)
{
    const size_t length = kernels * kernel_size;
    const int whole = stage_k && kernel_size > 1;
    __m512i order[3];
    __mmask64 ninth[3];
    order9_avx512(order, ninth);
    if (whole && kernel_size > LARGEST_KERNEL) {
        qsdk_squant_portable(x, rows, kernels, kernel_size, scale, zero_point, qmin, qmax, stage_k,
                             stage_c, error, codes);
        return;
    }
    for (size_t r = 0; r < rows; r++, x += length, codes += length) {
        const struct grid grid = grid_avx512(scale[r], zero_point[r], qmin, qmax);
        if (!whole)
            flat_row_avx512(x, length, &grid, zero_point[r], stage_c, error, codes);
        else if (kernel_size == 9 && kernels > 4)
            row9_avx512(x, kernels, &grid, zero_point[r], order, ninth, stage_c, error, codes);
        else
            row_avx512(x, kernels, kernel_size, &grid, zero_point[r], stage_c, error, codes);
    }
}
#endif
