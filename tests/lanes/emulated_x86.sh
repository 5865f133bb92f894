#!/usr/bin/env bash
# The real wheel on x86-64 CPUs that lack features: all of Python, numpy and qsdk under qemu.
#
# qemu64 and Conroe are not among them: numpy's own wheels want x86-64-v2. qemu 7.2 emulates up to
# AVX2, so what needs AVX-512, VNNI or AMX is not reached here: drivers.sh and the tests run it natively.
LANE="emulated x86-64"
CPUS=(Nehalem Haswell)  # without and with AVX2: qemu has no set beyond it that a kernel of ours uses
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
if [ "$(uname -m)" != x86_64 ]; then
    skip "$LANE: this machine is $(uname -m), and the wheel is for it"
    exit 0
fi
need qemu-x86_64 qemu-user || exit 0
skip "$LANE: AVX-512, VNNI and AMX, which qemu does not emulate: tried where this machine has them"

wheel
"$PYTHON" -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install "$WHEEL" pytest
cp "$LANES/emulated/test_twins.py" "$WORK"
cd "$WORK"
python=$WORK/venv/bin/python

# The emulator must be strict, or what follows proves nothing: AVX on Nehalem is an illegal instruction.
CFLAGS=-march=x86-64-v3 build_into "$WORK/avx2"
call='import numpy as np, qsdk.native as n
n.quantize_rows(np.ones((4, 64), np.float32), np.ones(4, np.float32), np.zeros(4, np.int32), 0, 15)'
status=0
{ PYTHONPATH=$WORK/avx2 qemu-x86_64 -cpu Nehalem "$python" -c "$call" || status=$?; } >"$WORK/strict.log" 2>&1
[ $status -eq 132 ] || { cat "$WORK/strict.log"; fail "a build for AVX2 ended with $status on Nehalem, not with SIGILL (132)"; }
PYTHONPATH=$WORK/avx2 qemu-x86_64 -cpu Haswell "$python" -c "$call" 2>"$WORK/strict.log" || fail "a build for AVX2 does not run on Haswell"
echo "a build for AVX2: SIGILL on Nehalem, runs on Haswell"

selection=(-m pytest -q -s -p no:cacheprovider test_twins.py)
"$python" "${selection[@]}" >native.log 2>&1 || { cat native.log; fail "the selection fails natively"; }
expected=$(grep -o 'inputs .*' native.log)
echo "natively: $expected"
run() {
    local start=$SECONDS
    qemu-x86_64 -cpu "$1" "$python" "${selection[@]}" >"$1.log" 2>&1 || { cat "$1.log"; fail "wrong on $1"; }
    grep -qF "$expected" "$1.log" || fail "$1 gives other bits than this machine"
    printf '%-15s %s, %d s\n    %s\n%s\n' "$1" "$(grep -o 'inputs .*' "$1.log")" $((SECONDS - start)) \
        "$(grep -o '^features: .*' "$1.log")" "$(grep -o '^kernel .*: ok, .*' "$1.log" | sed 's/^/    /')"
}
together run "${CPUS[@]}"
grep -qx 'features: extension' Nehalem.log || fail "Nehalem is said to have features that it lacks"
grep -q '^features: .*avx2' Haswell.log || fail "AVX2 was not found on Haswell"
