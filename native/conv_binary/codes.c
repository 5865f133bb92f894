/* The codes of an image: coded as one row, then turned around, 64 channels of 64 places at a time,
 * so that a place's channels are neighbours. Limited by the passes of coding. */
#include "conv_binary.h"

#include <string.h>

static size_t values_portable(const qsdk_conv_binary *layer)
{
    return layer->groups * layer->channels * layer->height * layer->width;
}

/* Of a plane, with one more to read past the last. */
size_t qsdk_conv_binary_words_portable(const qsdk_conv_binary *layer)
{
    return values_portable(layer) / 64 + 2;
}

/* 64 bits of a plane, from any of its bits on. */
static inline uint64_t bits_portable(const uint64_t *plane, size_t first)
{
    const uint64_t *at = plane + first / 64;
    const size_t shift = first % 64;
    return shift ? at[0] >> shift | at[1] << (64 - shift) : at[0];
}

/* Rows become columns: off the diagonal, halves change places, then quarters in each half... */
static void turn_portable(uint64_t rows[64])
{
    uint64_t mask = UINT64_C(0x00000000ffffffff);
    for (int half = 32; half; half /= 2, mask ^= mask << half)
        for (int block = 0; block < 64; block += 2 * half)
            for (int k = block; k < block + half; k++) {
                const uint64_t both = (rows[k] >> half ^ rows[k + half]) & mask;
                rows[k + half] ^= both;
                rows[k] ^= both << half;
            }
}

/* A word of the channels of each place, of `count` places, to where its lanes lie. */
static void store_portable(const qsdk_conv_binary *layer, const uint64_t *word, size_t count,
                           size_t lanes, uint8_t *codes)
{
    const size_t bytes = layer->set->code_bytes, step = bytes * (size_t)layer->bits;
    const size_t place = qsdk_conv_binary_place_bytes_portable(layer);
    for (size_t p = 0; p < count; p++, codes += place) {
        if (bytes == sizeof *word) {
            memcpy(codes, word + p, sizeof *word);
            continue;
        }
        uint64_t rest = word[p];
        for (size_t l = 0; l < lanes; l++, rest >>= 8) {
            codes[l * step] = (uint8_t)(rest << 4 & 0xf0);
            codes[l * step + 1] = (uint8_t)(rest & 0xf0);
        }
    }
}

/* One group: planes of channels, one after the other, to places. */
static void group_portable(const qsdk_conv_binary *layer, const uint64_t *words, size_t first,
                           uint8_t *codes)
{
    const size_t places = layer->height * layer->width, planes = (size_t)layer->bits;
    const size_t lane = layer->set->lane_bytes, all = qsdk_conv_binary_lanes_portable(layer);
    const size_t of_word = sizeof(uint64_t) / lane, plane = qsdk_conv_binary_words_portable(layer);
    for (size_t from = 0; from < all; from += of_word) {
        const size_t lanes = all - from < of_word ? all - from : of_word;
        const size_t channel = from * lane * 8, left = layer->channels - channel;
        for (size_t place = 0; place < places; place += 64)
            for (size_t j = 0; j < planes; j++) {
                uint64_t rows[64] = {0};
                for (size_t c = 0; c < (left < 64 ? left : 64); c++)
                    rows[c] = bits_portable(words + j * plane,
                                            first + (channel + c) * places + place);
                turn_portable(rows);
                store_portable(layer, rows, places - place < 64 ? places - place : 64, lanes,
                               codes + ((place * all + from) * planes + j) * layer->set->code_bytes);
            }
    }
}

/* Means of |x| over the channels of a group. */
static void mean_portable(const qsdk_conv_binary *layer, const float *x, float *mean)
{
    const size_t places = layer->height * layer->width, channels = layer->channels;
    for (size_t p = 0; p < places; p++)
        mean[p] = 0;
    for (size_t c = 0; c < channels; c++, x += places)
        for (size_t p = 0; p < places; p++)
            mean[p] += x[p] < 0 ? -x[p] : x[p];
    const float count = channels ? (float)channels : 1.0f;
    for (size_t p = 0; p < places; p++)
        mean[p] /= count;
}

/* Means of those over the kernel; what lies beside the image adds nothing. */
static void map_portable(const qsdk_conv_binary *layer, const float *mean, float *map)
{
    const size_t taps = layer->kernel[0] * layer->kernel[1];
    const float count = taps ? (float)taps : 1.0f;
    for (size_t r = 0; r < layer->out_height; r++)
        for (size_t q = 0; q < layer->out_width; q++) {
            size_t top, bottom, left, right;
            float sum = 0;
            qsdk_conv_binary_seen_portable(layer, 0, r, &top, &bottom);
            qsdk_conv_binary_seen_portable(layer, 1, q, &left, &right);
            for (size_t i = top; i < bottom; i++)
                for (size_t j = left; j < right; j++) {
                    const size_t row = r * layer->stride[0] + i * layer->dilation[0];
                    const size_t column = q * layer->stride[1] + j * layer->dilation[1];
                    sum += mean[(row - layer->begin[0]) * layer->width + column - layer->begin[1]];
                }
            *map++ = sum / count;
        }
}

int qsdk_conv_binary_code_portable(const qsdk_conv_binary *layer, const float *x, float *beta,
                                   uint64_t *words, uint8_t *codes, float *mean, float *map)
{
    const size_t places = layer->height * layer->width, group = layer->channels * places;
    const size_t plane = qsdk_conv_binary_words_portable(layer);
    const qsdk_sign_how how = {layer->bits, QSDK_SIGN_GREEDY, 1, layer->cycles, 0};
    for (size_t j = 0; j < (size_t)layer->bits; j++) /* whole words may end before the last two */
        memset(words + (j + 1) * plane - 2, 0, 2 * sizeof *words);
    if (!qsdk_sign_codes_row_portable(layer->set->coding, x, values_portable(layer), &how, beta, words,
                                      1, plane))
        return 0;
    for (size_t g = 0; g < layer->groups; g++) {
        group_portable(layer, words, g * group,
                       codes + g * places * qsdk_conv_binary_place_bytes_portable(layer));
        if (!layer->scale_map)
            continue;
        mean_portable(layer, x + g * group, mean);
        map_portable(layer, mean, map + g * layer->out_height * layer->out_width);
    }
    return 1;
}
