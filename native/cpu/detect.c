/* Asks the CPU and the operating system. Runs when called, never at load: a static constructor
 * would run before anybody could switch it off. */
#define _GNU_SOURCE
#include "cpu.h"

#include <stddef.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum { EAX, EBX, ECX, EDX };

/* Registers that the operating system must save, as bits of XCR0. */
#define YMM 0x6u
#define ZMM 0xe6u
#define TILES 0x60000u

/* Where CPUID tells of each feature: leaf, subleaf, register and bit. */
static const struct {
    const char *name;
    uint32_t leaf, subleaf, reg, bit, needs;
} features[] = {
    {"avx2", 7, 0, EBX, 5, YMM},
    {"fma", 1, 0, ECX, 12, YMM},
    {"f16c", 1, 0, ECX, 29, YMM},
    {"avxvnni", 7, 1, EAX, 4, YMM},
    {"avx512f", 7, 0, EBX, 16, ZMM},
    {"avx512dq", 7, 0, EBX, 17, ZMM},
    {"avx512bw", 7, 0, EBX, 30, ZMM},
    {"avx512vl", 7, 0, EBX, 31, ZMM},
    {"avx512vbmi", 7, 0, ECX, 1, ZMM},
    {"avx512vnni", 7, 0, ECX, 11, ZMM},
    {"avx512vpopcntdq", 7, 0, ECX, 14, ZMM},
    {"amx_tile", 7, 0, EDX, 24, TILES},
    {"amx_int8", 7, 0, EDX, 25, TILES},
};

static uint32_t saved_registers(void)
{
    uint32_t leaf[4] = {0}, low, high;
    if (!__get_cpuid(1, &leaf[EAX], &leaf[EBX], &leaf[ECX], &leaf[EDX]))
        return 0;
    if (!(leaf[ECX] >> 27 & 1)) /* OSXSAVE: without it xgetbv itself is illegal */
        return 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

/* Linux gives a process the tiles when it asks: before that they fault, whatever CPUID says. Asked
 * before XCR0 is read. */
static int tiles_permitted(void)
{
#if defined(__linux__)
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
    return 0;
#endif
}

uint64_t qsdk_cpu_features(void)
{
    const uint32_t permitted = tiles_permitted() ? ~0u : ~TILES;
    const uint32_t saved = saved_registers() & permitted;
    uint64_t found = 0;
    for (uint32_t i = 0; i < sizeof features / sizeof *features; i++) {
        uint32_t leaf[4] = {0};
        if (__get_cpuid_count(features[i].leaf, features[i].subleaf, &leaf[EAX], &leaf[EBX],
                              &leaf[ECX], &leaf[EDX]) &&
            (leaf[features[i].reg] >> features[i].bit & 1) &&
            (saved & features[i].needs) == features[i].needs)
            found |= UINT64_C(1) << i;
    }
    return found;
}

#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

static const struct {
    const char *name;
    uint32_t word, bit; /* of AT_HWCAP (1) or AT_HWCAP2 (2) */
    const char *apple;
} features[] = {
    {"neon", 1, 1, "hw.optional.AdvSIMD"},
    {"dotprod", 1, 20, "hw.optional.arm.FEAT_DotProd"},
    {"i8mm", 2, 13, "hw.optional.arm.FEAT_I8MM"},
};

static int has(uint32_t i)
{
#if defined(__linux__)
    return getauxval(features[i].word == 1 ? AT_HWCAP : AT_HWCAP2) >> features[i].bit & 1;
#elif defined(__APPLE__)
    int value = 0;
    size_t size = sizeof value;
    return !sysctlbyname(features[i].apple, &value, &size, NULL, 0) && value;
#else
    return 0;
#endif
}

uint64_t qsdk_cpu_features(void)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < sizeof features / sizeof *features; i++)
        if (has(i))
            found |= UINT64_C(1) << i;
    return found;
}

#else

static const struct {
    const char *name;
} features[] = {{NULL}};

uint64_t qsdk_cpu_features(void)
{
    return 0;
}

#endif

const char *qsdk_cpu_feature_name(uint32_t i)
{
    return i < sizeof features / sizeof *features ? features[i].name : NULL;
}
