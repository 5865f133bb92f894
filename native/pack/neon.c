/* 8 codes to a lane of 64 bits: packing shifts them together in lanes of 16, 32 and 64 bits and takes
 * the bytes out by a table; unpacking puts the two bytes in which a code lies into a lane of 16 bits,
 * and shifts out what is around it. 16 codes at a time; what is left goes to the portable code. */
#include "arrays.h"

#ifdef QSDK_NEON_ARRAYS
#include <arm_neon.h>

/* Writes 16 bytes, of which 2 * bits are codes. */
static inline void pack_16_neon(uint8x16_t codes, int bits, uint8x16_t order, uint8_t *packed)
{
    const uint8x16_t ones = vandq_u8(codes, vdupq_n_u8((uint8_t)((1 << bits) - 1)));
    const uint16x8_t one = vreinterpretq_u16_u8(ones);
    const uint16x8_t twos = vorrq_u16(
        vandq_u16(one, vdupq_n_u16(0xFF)),
        vshlq_u16(vbicq_u16(one, vdupq_n_u16(0xFF)), vdupq_n_s16((int16_t)(bits - 8))));
    const uint32x4_t two = vreinterpretq_u32_u16(twos);
    const uint32x4_t fours = vorrq_u32(
        vandq_u32(two, vdupq_n_u32(0xFFFF)),
        vshlq_u32(vbicq_u32(two, vdupq_n_u32(0xFFFF)), vdupq_n_s32(2 * bits - 16)));
    const uint64x2_t four = vreinterpretq_u64_u32(fours);
    const uint64x2_t eights = vorrq_u64(
        vandq_u64(four, vdupq_n_u64(0xFFFFFFFF)),
        vshlq_u64(vbicq_u64(four, vdupq_n_u64(0xFFFFFFFF)), vdupq_n_s64(4 * bits - 32)));
    vst1q_u8(packed, vqtbl1q_u8(vreinterpretq_u8_u64(eights), order));
}

uint8_t qsdk_pack_neon(const uint8_t *codes, size_t n, int bits, uint8_t qmin, uint8_t *packed)
{
    uint8_t from[16]; /* the low `bits` bytes of both halves, one after the other */
    for (int i = 0; i < 16; i++)
        from[i] = (uint8_t)(i < bits ? i : i < 2 * bits ? 8 + i - bits : 0xFF);
    const uint8x16_t order = vld1q_u8(from), lowest = vdupq_n_u8(qmin);
    const size_t least = 128 / (size_t)bits + 1; /* whose bytes are 16 */
    uint8x16_t reach = vdupq_n_u8(0);
    for (; n >= 16 && n >= least; n -= 16, codes += 16, packed += 2 * bits) {
        const uint8x16_t some = vld1q_u8(codes);
        reach = vmaxq_u8(reach, vsubq_u8(some, lowest));
        pack_16_neon(some, bits, order, packed);
    }
    const uint8_t most = vmaxvq_u8(reach), rest = qsdk_pack_portable(codes, n, bits, qmin, packed);
    return most > rest ? most : rest;
}

/* Where the 8 codes from bit `start` on lie: their two bytes, and what moves them to the top. */
struct places {
    uint8x16_t bytes;
    int16x8_t up;
};

static struct places places_neon(int bits, int start)
{
    uint8_t bytes[16];
    int16_t up[8];
    for (int i = 0; i < 8; i++) {
        const int bit = start + i * bits;
        bytes[2 * i] = (uint8_t)(bit / 8);
        bytes[2 * i + 1] = (uint8_t)(bit / 8 + 1);
        up[i] = (int16_t)(16 - bits - bit % 8);
    }
    const struct places places = {vld1q_u8(bytes), vld1q_s16(up)};
    return places;
}

/* 8 codes, each in the low byte of a lane. */
static inline uint8x8_t codes_neon(uint8x16_t packed, const struct places *places, int is_signed,
                                   int16x8_t down)
{
    const uint8x16_t pairs = vqtbl1q_u8(packed, places->bytes);
    const uint16x8_t top = vshlq_u16(vreinterpretq_u16_u8(pairs), places->up);
    const uint16x8_t codes =
        is_signed ? vreinterpretq_u16_s16(vshlq_s16(vreinterpretq_s16_u16(top), down))
                  : vshlq_u16(top, down);
    return vmovn_u16(codes);
}

int qsdk_unpack_neon(const uint8_t *packed, size_t packed_bytes, size_t n, int bits, int is_signed,
                     uint8_t *codes)
{
    const size_t width = (size_t)bits;
    if (bits < 1 || bits > 7 || packed_bytes < n / 8 * width + (n % 8 * width + 7) / 8)
        return qsdk_unpack_portable(packed, packed_bytes, n, bits, is_signed, codes);
    const struct places first = places_neon(bits, 0), second = places_neon(bits, 8 * bits);
    const int16x8_t down = vdupq_n_s16((int16_t)(bits - 16));
    const size_t ahead = 128 / width + 1; /* codes whose bytes are 16, which are read */
    size_t i = 0;
    for (; i + 16 <= n && i + ahead <= n; i += 16) {
        const uint8x16_t some = vld1q_u8(packed + i / 8 * width);
        vst1q_u8(codes + i, vcombine_u8(codes_neon(some, &first, is_signed, down),
                                        codes_neon(some, &second, is_signed, down)));
    }
    const size_t bytes = i / 8 * width;
    return qsdk_unpack_portable(packed + bytes, packed_bytes - bytes, n - i, bits, is_signed,
                                codes + i);
}
#endif
