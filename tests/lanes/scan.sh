#!/usr/bin/env bash
# The disassembly scan: nothing in the wheel's extension needs more than the baseline of x86-64, but
# functions that say so in their names. A build with -march=native must show that the scan can see.
LANE="disassembly scan"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need objdump binutils || exit 0
if [ "$(uname -m)" != x86_64 ]; then
    skip "$LANE: this machine is $(uname -m); the ARM build is scanned by arm.sh"
    exit 0
fi

wheel
"$PYTHON" -m zipfile -e "$WHEEL" "$WORK/wheel-files"
"$PYTHON" "$LANES/scan.py" "$WORK"/wheel-files/qsdk/_native*.so || fail "the wheel needs more than x86-64"

# A function may use what its name says, and nothing else may.
cat >"$WORK/names.c" <<'C'
#define TWICE(name) \
    __attribute__((target("avx2"))) void name(float *x) { for (int i = 0; i < 64; i++) x[i] *= 2; }
TWICE(qsdk_twice_avx2)
TWICE(qsdk_twice_portable)
C
gcc -O3 -shared -fPIC "$WORK/names.c" -o "$WORK/names.so"
named=$("$PYTHON" "$LANES/scan.py" "$WORK/names.so" | sed -n 's/^  \(.*\): .*/\1/p') || true
[ "$named" = qsdk_twice_portable ] || fail "of two functions for AVX2 the scan names: $named"

march=native
grep -q ' avx ' /proc/cpuinfo || march=x86-64-v3  # this machine has no AVX, but its compiler does
CFLAGS=-march=$march build_into "$WORK/site"
if "$PYTHON" "$LANES/scan.py" "$WORK"/site/qsdk/_native*.so >"$WORK/scan.log"; then
    fail "a build with -march=$march was not named"
fi
grep -q "^  qsdk_quantize_rows_portable: " "$WORK/scan.log" ||
    { cat "$WORK/scan.log"; fail "the scan of a build with -march=$march names no entry point"; }
echo "with -march=$march:"
cat "$WORK/scan.log"
