#!/usr/bin/env bash
# Plants each bug of this folder in a copy of the sources, one at a time, and expects the simulator to find it.
#
#   tests/planted/run.sh [SEEDS] [PATCH...]
#
# SEEDS: how many seeds each bug has (2000 by default). A table comes out: bug, caught as, first failing seed. The exit code
# is 1 when a bug was not found, a patch no longer applies, or the sources break a promise without any bug.
# PLANTED_TARGET names the folder for compiled code, which is kept to be quicker the next time.
set -u

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seeds=${1:-2000}
[ $# -gt 0 ] && shift
patches=("$@")
[ ${#patches[@]} -eq 0 ] && patches=("$here"/*.patch)

copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
export CARGO_TARGET_DIR=${PLANTED_TARGET:-$root/target/planted}

# Files are as new as the copy (-m): else cargo would take an earlier bug's build for this one's.
fresh() {
    rm -rf "${copy:?}/tree"
    mkdir "$copy/tree"
    tar -C "$root" --exclude=./target --exclude=./.git -cf - . | tar -C "$copy/tree" -xmf -
}

# Builds the copy and runs its seeds; says the last line of what came out.
try() {
    if ! (cd "$copy/tree" && cargo build --quiet --release --offline -p lockstep-protocol --features sim --example seeds) \
        >"$copy/build" 2>&1; then
        echo "does not build: $(grep -m 1 '^error' "$copy/build")"
        return
    fi
    "$CARGO_TARGET_DIR/release/examples/seeds" 0 "$seeds" 2>/dev/null | tail -n 1
}

failed=0
printf '%-42s  %-32s  %s\n' "bug" "caught as" "first failing seed of $seeds"
for patch in none "${patches[@]}"; do
    fresh
    name=$(basename "$patch" .patch)
    if [ "$patch" != none ] && ! patch --quiet --directory "$copy/tree" -p1 <"$patch" >/dev/null; then
        printf '%-42s  %s\n' "$name" "the patch does not apply"
        failed=1
        continue
    fi
    result=$(try)
    case "$result" in
        "broken: seed "*)
            seed=${result#broken: seed }
            seed=${seed%%:*}
            how=${result#broken: seed "$seed": }
            printf '%-42s  %-32s  %s\n' "$name" "${how%%:*}" "$seed"
            [ "$patch" = none ] && failed=1
            ;;
        *)
            printf '%-42s  %-32s  %s\n' "$name" "nothing" "$result"
            [ "$patch" != none ] && failed=1
            ;;
    esac
done
exit "$failed"
