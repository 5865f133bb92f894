/* The order of weights in memory: what a call reads, it reads from front to back. */
#include "linear_binary.h"

#include <string.h>

size_t qsdk_linear_binary_block_rows(const struct qsdk_linear_binary_set *set, int bits)
{
    return (size_t)(bits ? set->block_rows : set->float_block_rows);
}

size_t qsdk_binary_block_portable(const qsdk_linear_binary *layer)
{
    return qsdk_linear_binary_block_rows(layer->set, layer->bits);
}

size_t qsdk_binary_block_bytes_portable(const qsdk_linear_binary *layer)
{
    return qsdk_binary_block_portable(layer) * qsdk_binary_words_portable(layer) * 8 *
           (size_t)(layer->planes * layer->parts);
}

size_t qsdk_binary_blocks_portable(const qsdk_linear_binary *layer)
{
    const size_t block = qsdk_binary_block_portable(layer);
    return (layer->rows + block - 1) / block;
}

size_t qsdk_linear_binary_packed(const qsdk_linear_binary *layer)
{
    return qsdk_binary_blocks_portable(layer) * qsdk_binary_block_bytes_portable(layer);
}

/* Where in its block of weights a row lies. */
static size_t place_portable(const qsdk_linear_binary *layer, size_t row)
{
    const size_t r = row % qsdk_binary_block_portable(layer);
    const size_t lanes = (size_t)layer->set->lanes, apart = (size_t)layer->set->apart;
    const size_t many = lanes * apart, of = r % many;
    return layer->bits ? r - of + of % lanes * apart + of / lanes : r;
}

void qsdk_linear_binary_pack(const qsdk_linear_binary *layer, const uint64_t *words,
                             uint8_t *packed)
{
    const size_t count = qsdk_binary_words_portable(layer);
    const size_t block = qsdk_binary_block_portable(layer);
    const size_t lane = (size_t)(layer->bits ? layer->set->lane_bytes : 1);
    const size_t chunks = count * 8 / lane;
    const size_t planes = (size_t)layer->planes, parts = (size_t)layer->parts;
    memset(packed, 0, qsdk_linear_binary_packed(layer));
    for (size_t part = 0; part < parts; part++)
        for (size_t plane = 0; plane < planes; plane++)
            for (size_t row = 0; row < layer->rows; row++)
                for (size_t byte = 0; byte < 8 * count; byte++) {
                    const uint64_t word =
                        words[((part * planes + plane) * layer->rows + row) * count + byte / 8];
                    const size_t chunk = (row / block * planes + plane) * chunks + byte / lane;
                    const size_t to = (chunk * parts + part) * block + place_portable(layer, row);
                    packed[to * lane + byte % lane] = (uint8_t)(word >> 8 * (byte % 8));
                }
}
