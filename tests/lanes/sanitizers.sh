#!/usr/bin/env bash
# The native tests with the extension built for AddressSanitizer and UndefinedBehaviorSanitizer.
#
# First the canaries: three calls of the extension with arguments that lie must be caught, each as
# what it is, or the sanitizers are not at work and the tests that follow prove nothing.
LANE="sanitizers"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
TESTS=(tests/native tests/test_packing.py)

asan=$(gcc -print-file-name=libasan.so)
if [ ! -e "$asan" ]; then
    skip "$LANE: gcc has no libasan.so"
    exit 0
fi
flags="-fsanitize=address,undefined"
printf '#!/bin/sh\nexec gcc "$@" -O1\n' >"$WORK/gcc"  # behind -O3, which takes four times as long
chmod +x "$WORK/gcc"
CC="$WORK/gcc" CFLAGS="-g -fno-omit-frame-pointer $flags" LDFLAGS="$flags" build_into "$WORK/site"

# numpy keeps small arrays of its own for reuse, each in a block of its own; Python must do so too.
sanitized=(env LD_PRELOAD="$asan" PYTHONMALLOC=malloc PYTHONPATH="$WORK/site"
    ASAN_OPTIONS=detect_leaks=0:halt_on_error=1
    UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1
    QSDK_REQUIRE_NATIVE=1)

# canary WHAT PATTERN CALL: the call must end the process with that report.
canary() {
    if "${sanitized[@]}" "$PYTHON" - <<PYTHON >"$WORK/canary.log" 2>&1; then
import numpy as np
from qsdk._native import ffi, lib

def at(kind, array):
    return ffi.from_buffer(kind, array)

codes, packed = np.zeros(4001, np.uint8), np.zeros(2000, np.uint8)
rows, scale, zero = np.ones((2, 1000), np.float32), np.ones(2, np.float32), np.zeros(2, np.int32)
$3
PYTHON
        fail "the canary was not caught: $1"
    fi
    grep -E -m 1 "$2" "$WORK/canary.log" >"$WORK/caught" ||
        { cat "$WORK/canary.log"; fail "the canary died of something else: $1"; }
    echo "caught: $1: $(sed 's/.*: \(runtime error\|AddressSanitizer\)/\1/; s/ on address.*//' "$WORK/caught")"
}
canary "a read of one byte past the end" "heap-buffer-overflow" \
    'lib.qsdk_unpack_portable(at("uint8_t[]", packed), 2001, 4001, 4, 0, at("uint8_t[]", codes))'
canary "a write of one byte past the end" "heap-buffer-overflow" \
    'lib.qsdk_quantize_rows_portable(at("float[]", rows), 2, 1000, at("float[]", scale),
        at("int32_t[]", zero), 0, 15, at("uint8_t[]", codes[:1999].copy()))'
canary "a shift by 40 bits" "shift exponent 40 is too large" \
    'lib.qsdk_pack_portable(at("uint8_t[]", codes), 8, 40, 0, at("uint8_t[]", packed))'

cd "$ROOT"
"${sanitized[@]}" "$PYTHON" -m pytest -q -p no:cacheprovider "${TESTS[@]}" 2>&1 |
    tee "$WORK/tests.log" | tail -n 30
loaded=$("${sanitized[@]}" "$PYTHON" -c 'import qsdk._native as n; print(n.__file__)')
[[ $loaded == "$WORK"/site/* ]] || fail "the tests saw $loaded, not the build with sanitizers"
