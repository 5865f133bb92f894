/* What this CPU can run, and the operating system lets it run. */
#ifndef QSDK_CPU_H
#define QSDK_CPU_H

#include <stdint.h>

/* [cffi] */
/* Bit i is set when feature number i is there and usable: the registers it needs are saved by the
 * operating system, and for AMX this process has been given the permission that Linux asks for. */
uint64_t qsdk_cpu_features(void);

/* The name of feature number i, such as "avx2"; NULL after the last one of this platform. */
const char *qsdk_cpu_feature_name(uint32_t i);
/* [/cffi] */

#endif
