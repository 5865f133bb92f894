/* Bit packing, eight codes at a time: they fill exactly `bits` bytes, whatever `bits` is. */
#include "qsdk_native.h"

#include <string.h>

/* ceil(n * bits / 8) without overflow, for bits of 1 to 8. */
static size_t packed_size_portable(size_t n, int bits)
{
    const size_t width = (size_t)bits;
    return n / 8 * width + (n % 8 * width + 7) / 8;
}

static inline void pack_group_portable(const uint8_t *codes, size_t n, int bits, uint8_t *packed)
{
    const unsigned mask = (1u << bits) - 1;
    uint64_t word = 0;
    for (size_t i = 0; i < n; i++)
        word |= (uint64_t)(codes[i] & mask) << (i * (size_t)bits);
    for (size_t i = 0; i < packed_size_portable(n, bits); i++)
        packed[i] = (uint8_t)(word >> 8 * i);
}

static inline void unpack_group_portable(const uint8_t *packed, size_t n, int bits, unsigned sign,
                                         uint8_t *codes)
{
    const unsigned mask = (1u << bits) - 1;
    uint64_t word = 0;
    for (size_t i = 0; i < packed_size_portable(n, bits); i++)
        word |= (uint64_t)packed[i] << 8 * i;
    for (size_t i = 0; i < n; i++) {
        const unsigned code = (unsigned)(word >> (i * (size_t)bits)) & mask;
        codes[i] = (uint8_t)((code ^ sign) - sign); /* the bit `sign` counts as -sign */
    }
}

uint8_t qsdk_pack_portable(const uint8_t *codes, size_t n, int bits, uint8_t qmin, uint8_t *packed)
{
    uint8_t reach = 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t above = (uint8_t)(codes[i] - qmin);
        reach = above > reach ? above : reach;
    }
    for (; n >= 8; n -= 8, codes += 8, packed += bits)
        pack_group_portable(codes, 8, bits, packed);
    pack_group_portable(codes, n, bits, packed);
    return reach;
}

int qsdk_unpack_portable(const uint8_t *packed, size_t packed_bytes, size_t n, int bits,
                         int is_signed, uint8_t *codes)
{
    if (bits < 1 || bits > 8 || packed_bytes < packed_size_portable(n, bits))
        return 1;
    if (bits == 8) {
        memcpy(codes, packed, n);
        return 0;
    }
    const unsigned sign = is_signed ? 1u << (bits - 1) : 0;
    for (; n >= 8; n -= 8, codes += 8, packed += bits)
        unpack_group_portable(packed, 8, bits, sign, codes);
    unpack_group_portable(packed, n, bits, sign, codes);
    return 0;
}
