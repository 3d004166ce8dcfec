#!/usr/bin/env bash
# The audit of the tests: makes each wrong change of this folder in a copy of the sources, one at a time, and says which check
# is the first to fail. A change that no check notices fails the audit, and so does one that does not apply or not compile.
# (Whether each still fits the sources is looked at by `tests/tidy.rs` as well, with every run of the tests.)
#
#   tests/audit/run.sh [--only NAME[,NAME...]] [--part K/N]    # some: by the beginnings of their names; every N-th, from the K-th
#   tests/audit/run.sh --simulator                             # the simulator alone, on the changes that say it finds them (in its runs
#                                                              # for liveness, where they say that)
#
# Rows of README.md come out. The first is `none`: the sources as they are, which pass every check. AUDIT_DIR names the folder
# for the copy and what is compiled there; it is kept, to be quicker the next time.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${AUDIT_DIR:-${TMPDIR:-/tmp}/lockstep-audit-$UID}
tree=$dir/tree
seeds=500    # of the simulator; 2,000 where it is alone
patience=600 # seconds for one check: a wrong change may make it endless
only='' part=0/1 mode=all

while [ $# -gt 0 ]; do
    case "$1" in
        --only) only=$2 && shift ;;
        --part) part=$2 && shift ;;
        --simulator) mode=simulator seeds=2000 ;;
        *) sed -n '2,12s/^# \?//p' "$0" && exit 2 ;;
    esac
    shift
done

# The changes that are wanted: by their names, then by their places.
wanted() {
    local patch prefix place=0 prefixes
    IFS=, read -ra prefixes <<<"${only:-,}"
    for patch in "$here"/*.patch; do
        [ "$mode" != simulator ] || grep -q '^Simulator: ' "$patch" || continue
        for prefix in "${prefixes[@]}"; do
            [[ $(basename "$patch") == "$prefix"* ]] || continue
            [ $((place % ${part#*/})) -ne "${part%/*}" ] || echo "$patch"
            place=$((place + 1))
            break
        done
    done
}

apply() {
    patch --quiet --batch --fuzz=0 -p1 --directory "$1" "${@:3}" <"$2" >/dev/null
}

touched() {
    sed -n 's|^+++ b/||p' "$1"
}

# Files are as new as the copy (-m): else cargo would take an earlier change's build for this one's.
copy() {
    rm -rf "$tree"
    mkdir -p "$tree"
    tar -C "$root" --exclude=./target --exclude=./.git --exclude=./fuzz/corpus --exclude=./fuzz/artifacts -cf - . | tar -C "$tree" -xmf -
}

# The checks of the crates that these files are of, the cheapest first: a name, and cargo's words to build and to run it. The second
# word is what to add for runs for liveness.
checks() {
    local protocol='-p lockstep-protocol --features sim' actors='-p lockstep-actors'
    local simulator="simulator:build $protocol --example seeds:run $protocol --example seeds -- 0 $seeds $2"
    if [ "$mode" = simulator ]; then
        echo "${simulator//--example/--release --example}"
        return
    fi
    if grep -q '^protocol/'; then
        echo "unit test:test $protocol --lib --no-run:test $protocol --lib"
        echo "story:test $protocol --test scripts --no-run:test $protocol --test scripts"
        echo "$simulator"
        echo "model:test $protocol --test model --no-run:test $protocol --test model"
    fi <<<"$1"
    if grep -qE '^(actors|protocol/src/storage)/'; then
        echo "actors' unit test:test $actors --lib --no-run:test $actors --lib"
        echo "crash points:test $actors --test crash_points --no-run:test $actors --test crash_points"
    fi <<<"$1"
}

# What of a failed check's output says what went wrong: a promise, a story and its line, or a test.
reason() {
    local story='^  [a-z0-9-]*: line [0-9]*: ' told='^  [a-z0-9-]*: ' count
    if grep -q '^broken: seed ' "$dir/out"; then
        sed -n 's/^broken: seed \([0-9]*: .*\)$/seed \1/p' "$dir/out" | head -n 1 | cut -c 1-80
    elif grep -q "$story\|$told.*told" "$dir/out"; then
        grep "$story" "$dir/out" | sed 's/^  \([^:]*\): line \([0-9]*\).*/\1, line \2/' >"$dir/stories" || true
        grep "$told.*told" "$dir/out" | sed 's/^  \([^:]*\): .*/\1, as told/' >>"$dir/stories" || true
        count=$(wc -l <"$dir/stories")
        echo "$(head -n 1 "$dir/stories")$([ "$count" -eq 1 ] || echo " (and $((count - 1)) more)")"
    elif grep -q '^test .* FAILED$' "$dir/out"; then
        count=$(grep -c '^test .* FAILED$' "$dir/out")
        echo "$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p' "$dir/out" | head -n 1)$([ "$count" -eq 1 ] || echo " (and $((count - 1)) more)")"
    else
        tail -n 1 "$dir/out" | cut -c 1-80
    fi
}

# Runs checks until one fails: that one is `caught`, and why `how`. Both are empty when none does.
judge() {
    local name build run code
    caught='' how=''
    while IFS=: read -r name build run; do
        # shellcheck disable=SC2086 # They are several words.
        if ! (cd "$tree" && cargo $build) >"$dir/out" 2>&1; then
            caught='' how="does not compile: $(grep -m 1 '^error' "$dir/out" || true)"
            return
        fi
        code=0
        # shellcheck disable=SC2086 # They are several words.
        (cd "$tree" && timeout "$patience" cargo $run) >"$dir/out" 2>&1 || code=$?
        if [ "$code" -ne 0 ]; then
            caught=$name
            [ "$code" -ne 124 ] && how=$(reason) || how="no end in $patience s"
            return
        fi
    done < <(checks "$1" "${2:-}")
}

row() {
    printf '| %s | %s | %s | %s | %s |\n' "$@"
}

mkdir -p "$dir"
exec 9>"$dir/lock"
flock --nonblock 9 || { echo "another audit runs in $dir" && exit 2; }
export CARGO_TARGET_DIR=$dir/target CARGO_TERM_COLOR=never CARGO_PROFILE_DEV_DEBUG=false CARGO_INCREMENTAL=1 RUST_BACKTRACE=0
copy
failed=0
row "wrong change" "breaks" "caught by" "which" "s"
row --- --- --- --- ---:
mapfile -t patches < <(wanted)
SECONDS=0
judge "$(sed -n 's|^+++ b/||p' "${patches[@]}" | sort -u)"
if [ -n "$caught$how" ]; then
    row none "" "$caught" "$how" "$SECONDS"
    echo "the sources as they are do not pass: nothing can be said of the changes" >&2
    exit 1
fi
row none "" nothing "" "$SECONDS"
for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch) rule=$(sed -n '1s/: .*//p' "$patch") SECONDS=0
    if apply "$tree" "$patch"; then
        judge "$(touched "$patch")" "$(grep -q '^Simulator: .*liveness' "$patch" && echo lasting)"
    else
        caught='' how='does not apply'
    fi
    [ -n "$caught" ] || failed=1
    row "$name" "$rule" "${caught:-**nothing**}" "$how" "$SECONDS"
    touched "$patch" | while read -r file; do cp "$root/$file" "$tree/$file"; done
done
exit "$failed"
