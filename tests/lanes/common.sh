# Sourced by the lanes written in bash: where things are, a scratch folder, and words for skipping.
#
#   PYTHON   an environment with the extras onnx and test; by default the python3 on PATH
#   WHEEL    the wheel to check; by default one is built
set -euo pipefail

LANES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$LANES/../.." && pwd)
PYTHON=$(command -v "${PYTHON:-python3}")
WORK=$(mktemp -d "${TMPDIR:-/tmp}/qsdk-lane-XXXXXX")
trap 'rm -rf "$WORK"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=2
for name in $(compgen -v QSDK_ || true); do unset "$name"; done
unset PYTHONPATH PYTEST_ADDOPTS CC CFLAGS LDFLAGS
export PYTHONSAFEPATH=1  # no sources of the current folder in the place of what was built

skip() { echo "skipped: $1"; }

fail() {
    echo "FAILED: $1"
    exit 1
}

# need COMMAND PACKAGE...: installs what Debian has; false, with the reason, when it cannot be had.
need() {
    command -v "$1" >/dev/null && return
    echo "apt-get install ${*:2}"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${@:2}"; } >"$WORK/apt.log" 2>&1 || true
    command -v "$1" >/dev/null && return
    skip "${LANE:?}: no $1, and apt-get cannot install ${*:2}: $(tail -n 1 "$WORK/apt.log")"
    return 1
}

# together FUNCTION ARGUMENT...: once for each, its words apart, as many at a time as there are CPUs;
# fails if one does.
together() {
    local function=$1 failed=0 pids=()
    for argument in "${@:2}"; do
        while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do sleep 0.05; done
        "$function" $argument &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
    return $failed
}

# The files of the checkout, in a folder of their own: builds never touch the tree.
copy_sources() {
    mkdir -p "$1"
    if git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$ROOT" && git ls-files -co --exclude-standard -z |
            tar --create --null --files-from - --ignore-failed-read) | tar --extract -C "$1"
    else
        cp -r "$ROOT"/. "$1"
        rm -rf "$1/build" "$1"/qsdk/_native.*
    fi
}

# build_into FOLDER: installs a copy of the sources, with C, for PYTHONPATH. CFLAGS are the caller's.
build_into() {
    copy_sources "$WORK/sources"
    QSDK_REQUIRE_NATIVE=1 "$PYTHON" -m pip install --no-deps --no-build-isolation \
        --target "$1" "$WORK/sources"
    rm -rf "$WORK/sources"
}

# The wheel under test, in WHEEL.
wheel() {
    if [ -z "${WHEEL:-}" ]; then
        copy_sources "$WORK/sources"
        QSDK_REQUIRE_NATIVE=1 "$PYTHON" -m pip wheel --no-deps --no-build-isolation \
            --wheel-dir "$WORK/wheel" "$WORK/sources"
        rm -rf "$WORK/sources"
        WHEEL=$(echo "$WORK"/wheel/*.whl)
    fi
    echo "$(basename "$WHEEL")"
}
