#!/usr/bin/env bash
# aarch64, emulated: the C driver, then a whole arm64 Python with our extension.
#
# Debian's arm64 Python goes into a scratch folder; the machine's own apt is not changed.
LANE="aarch64"
CPUS=(cortex-a72 neoverse-n1 max)
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
GCC=aarch64-linux-gnu-gcc
need $GCC gcc-aarch64-linux-gnu libc6-dev-arm64-cross || exit 0
need qemu-aarch64 qemu-user || exit 0
copy_sources "$WORK/sources"
cd "$WORK/sources"

# The emulator must be strict: a dot product is an illegal instruction on a cortex-a72.
cat >"$WORK/dot.c" <<'C'
#include <arm_neon.h>
int main(void) { return vaddvq_s32(vdotq_s32(vdupq_n_s32(0), vdupq_n_s8(1), vdupq_n_s8(2))) != 32; }
C
$GCC -O2 -static -march=armv8.2-a+dotprod "$WORK/dot.c" -o "$WORK/dot"
status=0
{ qemu-aarch64 -cpu cortex-a72 "$WORK/dot" || status=$?; } 2>/dev/null
[ $status -eq 132 ] || fail "a dot product ended with $status on cortex-a72, not with SIGILL (132)"
qemu-aarch64 -cpu max "$WORK/dot" || fail "a dot product fails on max"
echo "a dot product: SIGILL on cortex-a72, runs on max"

# The recipe of the extension: its flags, so that the driver and the extension are built alike.
"$PYTHON" - >"$WORK/flags" <<'PYTHON'
import runpy

recipe = runpy.run_path("native/build_native.py")["ffibuilder"]
recipe.emit_c_code("_native.c")
print(*recipe._assigned_source[3]["extra_compile_args"])
PYTHON
read -ra flags < <(tail -n 1 "$WORK/flags")
mapfile -t includes < <(printf -- '-I%s\n' native native/*/)

for function in $(grep -oE '_cffi_d_qsdk_\w+' _native.c | sed 's/_cffi_d_//' | sort -u); do
    # By name, or through the table of arrays.c, all of which the driver of arrays tries.
    grep -qwF "$function" "$LANES"/drivers/*.[ch] native/arrays/arrays.c || fail "no driver in tests/lanes/drivers tries $function"
done
compile() { $GCC "${flags[@]}" -Wall -Wextra "${includes[@]}" -c "$1" -o "$WORK/$(echo "$1" | tr / -).o"; }
together compile native/*/*.c
# drive DRIVER CPU
drive() {
    local said start=$SECONDS
    said=$(qemu-aarch64 -cpu "$2" "$WORK/driver-$1") || fail "driver $1 on $2: $said"
    echo "driver $1 on $2: ${said//$'\n'/; }, $((SECONDS - start)) s"
}
drives=()
for driver in "$LANES"/drivers/*.c; do
    name=$(basename "$driver" .c)
    $GCC "${flags[@]}" -Wall -Wextra -static "${includes[@]}" -I"$LANES/drivers" "$driver" \
        "$WORK"/native-*.o -lm -o "$WORK/driver-$name"
    on=("${CPUS[@]}")
    # NEON of ARMv8.0 is the same on all; the products of 8 bits have sets of their own on newer CPUs.
    if [[ $name != *int8 && $name != linear_groups ]]; then on=("${CPUS[0]}"); fi
    drives+=("${on[@]/#/$name }")
done
together drive "${drives[@]}"

# Debian's Python for arm64, of the version that runs this.
version=$("$PYTHON" -c 'import sys; print("{}.{}".format(*sys.version_info))')
side=$WORK/apt root=$WORK/root site=$WORK/site
mkdir -p "$side"/{state/lists/partial,cache/archives/partial} "$root" "$WORK/debs"
apt=(apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User=root
    -o Dir::State="$side/state" -o Dir::State::status=/dev/null -o Dir::Cache="$side/cache")
packages=(python"$version"-minimal libpython"$version"-{minimal,stdlib,dev}
    libc6 libgcc-s1 libgomp1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libbz2-1.0 liblzma5 libuuid1)
"${apt[@]}" update >"$WORK/apt.log" 2>&1 || true
if ! (cd "$WORK/debs" && "${apt[@]}" download "${packages[@]}") >>"$WORK/apt.log" 2>&1; then
    skip "$LANE: no whole arm64 Python $version, for its packages cannot be had: $(tail -n 1 "$WORK/apt.log")"
    exit 0
fi
for deb in "$WORK"/debs/*.deb; do dpkg -x "$deb" "$root"; done

# qsdk without C, its dependencies as arm64 wheels, and our extension beside them.
QSDK_NO_NATIVE=1 "$PYTHON" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$WORK" .
platforms=()
for tag in manylinux_2_28 manylinux_2_27 manylinux_2_26 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${tag}_aarch64")
done
"$PYTHON" -m pip install --target "$site" "${platforms[@]}" --python-version "$version" \
    --implementation cp --abi "cp${version/./}" --abi abi3 --abi none --only-binary :all: \
    "$WORK"/qsdk-*-py3-none-any.whl pytest
include=$root/usr/include
$GCC "${flags[@]}" -shared -fPIC -DPy_LIMITED_API=0x030b0000 -I"$include/python$version" -I"$include" \
    "${includes[@]}" _native.c native/*/*.c -o "$site/qsdk/_native.abi3.so"
"$PYTHON" "$LANES/scan.py" --objdump aarch64-linux-gnu-objdump "$site/qsdk/_native.abi3.so" ||
    fail "the extension needs more than ARMv8.0"

cp "$LANES/emulated/test_twins.py" "$WORK"
cd "$WORK"
selection=(-m pytest -q -s -p no:cacheprovider test_twins.py)
build_into "$WORK/here"
expected=$(PYTHONPATH=$WORK/here "$PYTHON" "${selection[@]}" 2>&1 | grep -o 'inputs .*')
echo "natively, $(uname -m): $expected"
run() {
    local start=$SECONDS
    PYTHONPATH=$site PYTHONHOME=$root/usr qemu-aarch64 -L "$root" -cpu "$1" \
        "$root/usr/bin/python$version" "${selection[@]}" >"$1.log" 2>&1 ||
        { cat "$1.log"; fail "wrong on $1"; }
    grep -qF "$expected" "$1.log" || fail "$1 gives other bits than this machine"
    printf 'arm64 Python on %s: %s, %d s\n    %s\n%s\n' "$1" "$(grep -o 'inputs .*' "$1.log")" \
        $((SECONDS - start)) "$(grep -o '^features: .*' "$1.log")" \
        "$(grep -o '^kernel .*: ok, .*' "$1.log" | sed 's/^/    /')"
}
together run "${CPUS[0]}" "${CPUS[-1]}"
grep -qx 'features: extension, neon' cortex-a72.log || fail "cortex-a72 is said to have features that it lacks"
