/* Four units per step; vectors of four are part of the platform. */
#include "recurrent.h"

#if defined(__aarch64__) && defined(__GNUC__)

#define SET neon
#define LANES 4
#define TARGET
#define FEATURES "neon"
#include "cells.h"

#endif
