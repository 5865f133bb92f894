/* One unit per step. */
#define SET portable
#define LANES 1
#define TARGET
#define FEATURES ""
#include "cells.h"
