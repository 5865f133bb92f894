/* Eight units per step. */
#include "recurrent.h"

#if defined(__x86_64__) && defined(__GNUC__)

#define SET avx2
#define LANES 8
#define TARGET __attribute__((target("avx2")))
#define FEATURES "avx2"
#include "cells.h"

#endif
