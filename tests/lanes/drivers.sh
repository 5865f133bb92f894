#!/usr/bin/env bash
# The C drivers on this machine: every instruction set that it can run, as built for users and then
# with AddressSanitizer and UndefinedBehaviorSanitizer.
LANE="C drivers"
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need gcc gcc || exit 0
cd "$ROOT"
mapfile -t includes < <(printf -- '-I%s\n' native native/*/ "$LANES/drivers")
flags=(-std=c11 -ffp-contract=off -Wall -Wextra -fopenmp)

# build NAME FLAGS...: all of native/ as one library, for every driver.
build() {
    mkdir -p "$WORK/$1"
    (cd "$WORK/$1" && printf '%s\n' "$ROOT"/native/*/*.c |
        xargs -P 2 -I{} sh -c 'gcc "$@" -c {} -o "$(echo {} | tr / -).o"' -- \
            "${flags[@]}" "${@:2}" "${includes[@]/#-Inative/-I$ROOT/native}")
    for driver in "$LANES"/drivers/*.c; do
        gcc "${flags[@]}" "${@:2}" "${includes[@]}" "$driver" "$WORK/$1"/*.o -lm \
            -o "$WORK/$1-$(basename "$driver" .c)"
    done
}
build fast -O3
build sanitized -g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
drive() {
    local said start=$SECONDS
    said=$("$WORK/$1" 2>&1) || fail "driver $1: $said"
    echo "driver $1: ${said//$'\n'/; }, $((SECONDS - start)) s"
}
mapfile -t names < <(basename --suffix .c --multiple "$LANES"/drivers/*.c)
together drive "${names[@]/#/sanitized-}" "${names[@]/#/fast-}"
