/* What the drivers share. A driver tries functions of native/ on seeded inputs against plain slow
 * oracles of its own.
 *
 * Static and free of Python, so that it runs under an emulator of any CPU. Each buffer ends at a
 * page that nobody may touch: one byte too far is a crash. Prints the inputs tried and wrong. */
#ifndef DRIVER_H
#define DRIVER_H

#define _GNU_SOURCE
#include "cpu.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)1 << 20) /* no system has larger ones */

static size_t inputs, wrong;

static inline void expect(int right, const char *what, long a, long b, long c)
{
    inputs++;
    if (!right && wrong++ < 20)
        printf("wrong: %s %ld %ld %ld\n", what, a, b, c);
}

/* bytes that end where a forbidden page begins; buffer number `which` is used anew by each call. */
static inline void *guarded(int which, size_t bytes)
{
    static char *buffers[16];
    if (!buffers[which]) {
        buffers[which] = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                              -1, 0);
        if (buffers[which] == MAP_FAILED || mprotect(buffers[which] + PAGE, PAGE, PROT_NONE))
            exit(2);
    }
    if (bytes > PAGE)
        exit(2);
    memset(buffers[which] + PAGE - bytes, 0x55, bytes);
    return buffers[which] + PAGE - bytes;
}

static uint64_t state;

static inline uint32_t draw(uint32_t below) /* splitmix64 */
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ z >> 31) >> 32) % below;
}

/* Whether this CPU has the feature, and the operating system lets it run. */
static inline int has_feature(const char *name)
{
    const uint64_t found = qsdk_cpu_features();
    for (uint32_t i = 0; qsdk_cpu_feature_name(i); i++)
        if (!strcmp(qsdk_cpu_feature_name(i), name))
            return (int)(found >> i & 1);
    return 0;
}

/* Whether it has all of the features, words with spaces between. */
static inline int runs(const char *features)
{
    char words[256], *rest = words;
    snprintf(words, sizeof words, "%s", features);
    for (char *word; (word = strtok_r(rest, " ", &rest));)
        if (!has_feature(word))
            return 0;
    return 1;
}

static inline int summary(void)
{
    printf("inputs %zu, wrong %zu\n", inputs, wrong);
    return wrong != 0;
}

#endif
