#!/usr/bin/env bash
# Fuzzes each target in turn, from its seeds and what earlier runs found; a table comes out. The exit code is 1 when one failed: its
# input is in `artifacts`, and what was said in `artifacts/TARGET.log`.
#
#   fuzz/run.sh [--seconds N] [--keep] [TARGET...]
#
# --seconds: how long each is run (60 by default); 0 only runs what is there already. --keep: afterwards puts a small part of what
# was found, which covers the same, among the seeds. It needs cargo-fuzz (`cargo install cargo-fuzz`) and a C++ compiler, and no
# nightly toolchain: no target has unsafe code of its own, so no sanitizer is asked for.
set -euo pipefail
cd "$(dirname "$0")"

seconds=60 keep=''
targets=()
while [ $# -gt 0 ]; do
    case "$1" in
        --seconds) seconds=$2 && shift ;;
        --keep) keep=yes ;;
        -*) sed -n '2,9s/^# \?//p' "$0" && exit 2 ;;
        *) targets+=("$1") ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's|^path = "fuzz_targets/\(.*\)\.rs"$|\1|p' Cargo.toml)

fuzz() {
    cargo fuzz run --fuzz-dir . --sanitizer none --target "$(rustc -vV | sed -n 's/^host: //p')" "$@"
}

limits=(-rss_limit_mb=1024 -timeout=20 -max_len=4096 -print_final_stats=1)
failed=0
printf '| %s | %s | %s | %s | %s |\n' target seconds executions "covered edges" "inputs kept" --- ---: ---: ---: ---:
for target in "${targets[@]}"; do
    mkdir -p "corpus/$target" "seeds/$target" artifacts
    log=artifacts/$target.log
    bound=(-max_total_time="$seconds")
    [ "$seconds" -gt 0 ] || bound=(-runs=0)
    verdict=''
    fuzz "$target" "corpus/$target" "seeds/$target" -- "${limits[@]}" "${bound[@]}" >"$log" 2>&1 || { failed=1 verdict=' **failed**'; }
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '| %s | %s | %s | %s | %s |\n' "$target$verdict" "$seconds" "${executions:-?}" "${covered:-?}" "$(find "corpus/$target" -type f | wc -l)"
    if [ -n "$keep" ] && [ -z "$verdict" ]; then
        rm -rf "artifacts/kept"
        mkdir -p artifacts/kept
        fuzz "$target" artifacts/kept "seeds/$target" "corpus/$target" -- -merge=1 -max_len=256 >>"$log" 2>&1
        find artifacts/kept -type f -size -512c | sort | awk 'NR % 4 == 0 && kept++ < 32' | xargs -r cp -t "seeds/$target"
    fi
done
exit "$failed"
