/* Sixteen units per step. */
#include "recurrent.h"

#if defined(__x86_64__) && defined(__GNUC__)

#define SET avx512
#define LANES 16
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define FEATURES "avx512f avx512bw avx512dq avx512vl"
#include "cells.h"

#endif
