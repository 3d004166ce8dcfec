#!/usr/bin/env bash
# Lockstep beside what Debian ships: etcd, PostgreSQL, NATS and Redis, each with three replicas on this machine's loopback interface and
# its disk, one after the other, the same work, the same measuring code. README.md beside this file says how, and why that is fair.
#
#   benches/peers/run.sh [--quick] [--rounds N] [--only NAME[,NAME]] [--json FILE]
#
# --quick   one short round with small channels, to see that all of it works; its figures mean little
# --only    of lockstep, etcd, postgres, nats, redis, floor, ceiling, failover
# --json    where the figures go, a line of JSON each (target/peers.json by default)
#
# The table goes to standard output, what happens to standard error. Missing packages are installed, as root. PEERS_DIR is where the data
# lies meanwhile (/var/tmp by default): on a disk, not in memory. It ends by itself after 25 minutes.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
rounds=3 warm=1000 window=4000 seconds_max=1500 kills=5
lockstep_messages=1000000 postgres_messages=1000000 etcd_messages=20000
only=lockstep,etcd,postgres,nats,redis,floor,ceiling,failover
json="$root/target/peers.json"

usage() {
  sed -n 's/^# \{0,1\}//;2,13p' "$0" >&2
  exit 2
}
while (($#)); do
  case "$1" in
    --quick) rounds=1 warm=300 window=1000 kills=1 lockstep_messages=20000 postgres_messages=100000 ;;
    --rounds) rounds="${2:?}" && shift ;;
    --only) only="${2:?}" && shift ;;
    --json) json="${2:?}" && shift ;;
    *) usage ;;
  esac
  shift
done
for name in ${only//,/ }; do
  [[ ,lockstep,etcd,postgres,nats,redis,floor,ceiling,failover, == *,"$name",* ]] || usage
done

say() {
  echo "--- $*" >&2
}
fail() {
  echo "!!! $*" >&2
  exit 1
}
wants() {
  [[ ,$only, == *,"$1",* ]]
}

# Processes: every one that is started is in pids until it has ended, and none outlives this script.

pids=()
loading=
watchdog=
work=

# Waits until all of them have ended: asks first, and after 10 s kills. A postmaster ends at SIGINT without waiting for its clients.
stop_all() {
  local pid signal=TERM
  for pid in "${pids[@]}"; do
    [[ "$(cat "/proc/$pid/comm" 2>/dev/null)" == postgres ]] && signal=INT || signal=TERM
    kill -"$signal" "$pid" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do
    for _ in {1..100}; do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  pids=()
}
finish() {
  local code=$?
  set +e # Whatever fails here, even to say so, all of it is done.
  trap - EXIT
  trap '' INT TERM HUP PIPE
  [[ -z "$loading" ]] || kill "$loading" 2>/dev/null || true
  [[ -z "$watchdog" ]] || kill "$watchdog" 2>/dev/null || true
  stop_all
  if ((code != 0)) && [[ -n "$work" ]]; then
    echo "!!! ended with $code; the last lines of what the servers said:" >&2
    tail -n 5 "$work"/*.log >&2 2>/dev/null || true
  fi
  [[ -z "$work" ]] || rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'fail "interrupted, or out of time"' INT TERM HUP

# start NAME COMMAND...: its output goes to NAME.log, its pid to pids.
start() {
  local name="$1"
  shift
  "$@" >>"$work/$name.log" 2>&1 </dev/null &
  pids+=($!)
}
join() {
  local IFS=,
  echo "$*"
}
# Waits for it in a way that a signal interrupts.
interruptible() {
  "$@" &
  loading=$!
  wait "$loading"
  loading=
}
# Within its time, or it fails.
load() {
  interruptible timeout --kill-after=5 600 "$load" "$@"
}
# Ends the script when its time is up.
watch_time() {
  local sleeper
  sleep "$seconds_max" &
  sleeper=$!
  trap 'kill "$sleeper"; exit' TERM
  wait "$sleeper"
  kill -TERM "$$"
}
# run TARGET WORK CLIENTS AT [OPTION...]: one figure, of the processes that run now.
run() {
  local target="$1" kind="$2" clients="$3" at="$4"
  shift 4
  load run --target "$target" --work "$kind" --clients "$clients" --at "$at" --pids "$(join "${pids[@]}")" --round "$round" \
    --warm-ms "$warm" --window-ms "$window" --out "$json" "$@"
}
posts() {
  local clients
  for clients in 256 64 1; do
    run "$1" post "$clients" "${@:2}"
  done
}
reads() {
  run "$1" newest 64 "${@:2}"
  run "$1" one 64 "${@:2}"
}
free_ports() {
  local line
  line=$(load ports "$1") # It has ended when this returns, and holds none of them any more.
  read -r -a ports <<<"$line"
}

# What it takes.

# Debian starts a server as soon as its package is there, unless a policy says no.
install_packages() {
  local missing=("$@") policy=/usr/sbin/policy-rc.d made_policy=
  say "installs ${missing[*]}"
  ((EUID == 0)) || fail "these packages are missing, and only root can install them: ${missing[*]}"
  if [[ ! -e "$policy" ]]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    made_policy=yes
  fi
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-upgrade "${missing[@]}" >&2
  [[ -z "$made_policy" ]] || rm "$policy"
}
require() {
  local missing=()
  command -v protoc >/dev/null || missing+=(protobuf-compiler)
  [[ -e /usr/include/google/protobuf/descriptor.proto ]] || missing+=(libprotobuf-dev)
  ! wants etcd && ! wants failover || command -v etcd >/dev/null || missing+=(etcd-server)
  ! wants nats && ! wants failover || command -v nats-server >/dev/null || missing+=(nats-server)
  ! wants redis || command -v redis-server >/dev/null || missing+=(redis-server)
  ! wants postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
  ((${#missing[@]} == 0)) || install_packages "${missing[@]}"
}
build() {
  say "builds"
  interruptible env --chdir="$here/load" cargo build --quiet --release --locked # There, for .cargo/config.toml.
  load="$root/target/peers/release/load"
  if wants lockstep || wants failover; then
    interruptible env --chdir="$root" cargo build --quiet --release --locked --bin lockstep
    lockstep="$root/target/release/lockstep"
  fi
}
place() {
  work=$(mktemp -d "${PEERS_DIR:-/var/tmp}/lockstep-peers.XXXXXX")
  chmod 755 "$work"
  case "$(stat --file-system --format %T "$work")" in
    tmpfs | ramfs | overlayfs) say "WARNING: $work may not be on a disk: what is durable there costs nothing" ;;
  esac
}

# Each peer: start_X starts its processes with the data that it has, and sets `at` to where it is best asked, `all` to where it can be.

start_lockstep() {
  local dir="$work/lockstep" i seeds
  if [[ ! -d "$dir" ]]; then
    mkdir -p "$dir"
    free_ports 7
    lockstep_ports=("${ports[@]}")
    head -c 32 /dev/urandom | base64 >"$dir/secret"
    chmod 600 "$dir/secret"
    : >"$dir/empty.toml" # All that differs from the defaults is in the environment.
  fi
  local p=("${lockstep_ports[@]}")
  seeds="127.0.0.1:${p[0]},127.0.0.1:${p[1]},127.0.0.1:${p[2]}"
  export LOCKSTEP__CLUSTER__SEEDS="$seeds" LOCKSTEP__CLUSTER__SECRET_FILE="$dir/secret" LOCKSTEP__LOGGER__LEVEL=warn
  for i in 1 2 3; do
    start_lockstep_node "$i"
  done
  for i in 1 2; do
    start "lockstep-gateway-$i" env LOCKSTEP__GATEWAY__NAME="gateway-$i" LOCKSTEP__GATEWAY__LISTEN="127.0.0.1:${p[2 + i]}" \
      LOCKSTEP__WITNESS__DATA_DIR="$dir/gateway-$i" LOCKSTEP__WITNESS__LISTEN="127.0.0.1:${p[4 + i]}" "$lockstep" gateway --config "$dir/empty.toml"
  done
  at="127.0.0.1:${p[3]},127.0.0.1:${p[4]}"
  all="$at"
  find_lockstep
}
find_lockstep() {
  load primary --target lockstep --at "$at" >"$work/primary"
}
start_lockstep_node() {
  start "lockstep-$1" env LOCKSTEP__NODE__ID="$1" LOCKSTEP__NODE__DATA_DIR="$work/lockstep/node-$1" \
    LOCKSTEP__NODE__LISTEN="127.0.0.1:${lockstep_ports[$1 - 1]}" "$lockstep" node --config "$work/lockstep/empty.toml"
}

start_etcd() {
  local i
  if [[ ! -d "$work/etcd" ]]; then
    mkdir -p "$work/etcd"
    free_ports 6
    etcd_ports=("${ports[@]}")
  fi
  local p=("${etcd_ports[@]}")
  etcd_at=("127.0.0.1:${p[0]}" "127.0.0.1:${p[1]}" "127.0.0.1:${p[2]}")
  all=$(join "${etcd_at[@]}")
  for i in 1 2 3; do
    start_etcd_member "$i"
  done
  find_etcd
}
start_etcd_member() {
  local p=("${etcd_ports[@]}")
  start "etcd-$1" etcd --name "n$1" --data-dir "$work/etcd/n$1" --log-level error --quota-backend-bytes 8589934592 \
    --listen-client-urls "http://127.0.0.1:${p[$1 - 1]}" --advertise-client-urls "http://127.0.0.1:${p[$1 - 1]}" \
    --listen-peer-urls "http://127.0.0.1:${p[$1 + 2]}" --initial-advertise-peer-urls "http://127.0.0.1:${p[$1 + 2]}" \
    --initial-cluster "n1=http://127.0.0.1:${p[3]},n2=http://127.0.0.1:${p[4]},n3=http://127.0.0.1:${p[5]}"
}
# Who leads is asked directly: one hop less.
find_etcd() {
  load primary --target etcd --at "$all" >"$work/primary"
  at="${etcd_at[$(cat "$work/primary") - 1]}"
}

start_nats() {
  local i
  if [[ ! -d "$work/nats" ]]; then
    mkdir -p "$work/nats"
    free_ports 9
    nats_ports=("${ports[@]}")
    local p=("${nats_ports[@]}")
    for i in 1 2 3; do
      cat >"$work/nats/n$i.conf" <<END
server_name: n$i
listen: 127.0.0.1:${p[i - 1]}
http: 127.0.0.1:${p[i + 5]}
jetstream: {store_dir: "$work/nats/n$i", max_file_store: 20GB}
cluster: {name: peers, listen: 127.0.0.1:${p[i + 2]}, routes: ["nats://127.0.0.1:${p[3]}", "nats://127.0.0.1:${p[4]}", "nats://127.0.0.1:${p[5]}"]}
END
    done
    nats_at=("127.0.0.1:${p[0]}" "127.0.0.1:${p[1]}" "127.0.0.1:${p[2]}")
    nats_monitors="127.0.0.1:${p[6]},127.0.0.1:${p[7]},127.0.0.1:${p[8]}"
  fi
  all=$(join "${nats_at[@]}")
  for i in 1 2 3; do
    start_nats_server "$i"
  done
  if [[ ! -e "$work/nats/filled" ]]; then
    until_port "${nats_ports[0]}"
    load fill --target nats --count 0 --at "${nats_at[0]}"
    touch "$work/nats/filled"
  fi
  find_nats
}
start_nats_server() {
  start "nats-$1" nats-server --config "$work/nats/n$1.conf"
}
find_nats() {
  load primary --target nats --at "$nats_monitors" >"$work/primary"
  at="${nats_at[$(cat "$work/primary") - 1]}"
}

start_redis() {
  local i replica
  if [[ ! -d "$work/redis" ]]; then
    mkdir -p "$work/redis"/{n1,n2,n3}
    free_ports 3
    redis_ports=("${ports[@]}")
  fi
  for i in 1 2 3; do
    replica=()
    ((i == 1)) || replica=(--replicaof 127.0.0.1 "${redis_ports[0]}")
    start "redis-$i" redis-server --bind 127.0.0.1 --port "${redis_ports[i - 1]}" --dir "$work/redis/n$i" --appendonly yes \
      --appendfsync always --auto-aof-rewrite-percentage 0 --save "" --repl-diskless-sync-delay 0 --client-output-buffer-limit "replica 0 0 0" "${replica[@]}"
  done
  at="127.0.0.1:${redis_ports[0]}"
  load primary --target redis --at "$at" >"$work/primary"
}

# It refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then
    setpriv --reuid=postgres --regid=postgres --init-groups "$@"
  else
    "$@"
  fi
}
start_postgres_server() {
  local directory="$work/postgres/n$1"
  if ((EUID == 0)); then
    start "postgres-$1" setpriv --reuid=postgres --regid=postgres --init-groups "$postgres_bin/postgres" -D "$directory"
  else
    start "postgres-$1" "$postgres_bin/postgres" -D "$directory"
  fi
}
psql_primary() {
  psql --no-psqlrc --quiet --tuples-only --no-align --host 127.0.0.1 --port "${postgres_ports[0]}" --username postgres --dbname postgres \
    --command "$1" 2>>"$work/psql.log"
}
# until_postgres QUERY ANSWER
until_postgres() {
  local _
  for _ in {1..300}; do
    [[ "$(psql_primary "$1" || true)" != "$2" ]] || return 0
    sleep 0.1
  done
  fail "PostgreSQL does not answer $2 to $1"
}
start_postgres() {
  local i
  postgres_bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort --version-sort | tail -n 1)
  if [[ ! -d "$work/postgres" ]]; then
    mkdir -p "$work/postgres"
    ((EUID != 0)) || chown postgres: "$work/postgres"
    free_ports 3
    postgres_ports=("${ports[@]}")
    make_postgres
  else
    for i in 1 2 3; do
      start_postgres_server "$i"
    done
  fi
  at="127.0.0.1:${postgres_ports[0]}"
  until_postgres "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum')" 2
  if [[ ! -e "$work/postgres-filled" ]]; then
    load fill --target postgres --count "$postgres_messages" --at "$at"
    touch "$work/postgres-filled"
  fi
}
make_postgres() {
  local i dir="$work/postgres"
  as_postgres "$postgres_bin/initdb" --pgdata "$dir/n1" --auth trust --username postgres >>"$work/postgres-1.log"
  cat >>"$dir/n1/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
shared_buffers = 512MB
max_wal_size = 8GB
checkpoint_timeout = 30min
synchronous_commit = remote_apply
synchronous_standby_names = '${postgres_names}'
include = 'own.conf'
END
  echo "port = ${postgres_ports[0]}" >"$dir/n1/own.conf"
  start_postgres_server 1
  until_postgres "SELECT 1" 1
  for i in 2 3; do
    as_postgres "$postgres_bin/pg_basebackup" --pgdata "$dir/n$i" --checkpoint=fast --write-recovery-conf \
      --dbname "host=127.0.0.1 port=${postgres_ports[0]} user=postgres application_name=n$i" >>"$work/postgres-$i.log" 2>&1
    echo "port = ${postgres_ports[i - 1]}" >"$dir/n$i/own.conf"
    start_postgres_server "$i"
  done
}
postgres_names="FIRST 2 (n2, n3)"

start_floor() {
  local i
  free_ports 4
  for i in 1 2; do
    start "floor-replica-$i" "$load" floor --listen "127.0.0.1:${ports[i + 1]}" --file "$work/floor-$i"
  done
  start floor-primary "$load" floor --listen "127.0.0.1:${ports[1]}" --file "$work/floor-3" \
    --next "127.0.0.1:${ports[2]},127.0.0.1:${ports[3]}"
  start floor-gateway "$load" floor --listen "127.0.0.1:${ports[0]}" --next "127.0.0.1:${ports[1]}"
  at="127.0.0.1:${ports[0]}"
  until_port "${ports[0]}"
}
start_ceiling() {
  free_ports 1
  start ceiling "$load" ceiling --listen "127.0.0.1:${ports[0]}"
  at="127.0.0.1:${ports[0]}"
  until_port "${ports[0]}"
}
until_port() {
  for _ in {1..100}; do
    ! (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null || return 0
    sleep 0.1
  done
  fail "nobody listens on port $1"
}

# What each is measured at.

measure_lockstep() {
  if [[ ! -e "$work/lockstep-filled" ]]; then
    say "fills a channel of Lockstep with $lockstep_messages messages"
    load fill --target lockstep --count "$lockstep_messages" --at "$at"
    touch "$work/lockstep-filled"
  fi
  posts lockstep "$at"
  reads lockstep "$at"
}
measure_etcd() {
  if [[ ! -e "$work/etcd-filled" ]]; then
    load fill --target etcd --count "$etcd_messages" --at "$at"
    touch "$work/etcd-filled"
  fi
  posts etcd "$at"
  reads etcd "$at"
}
measure_postgres() {
  posts postgres "$at"
  reads postgres "$at"
}
measure_nats() {
  posts nats "$at"
}
measure_redis() {
  posts redis "$at"
}
measure_floor() {
  run floor post 1 "$at"
}
measure_ceiling() {
  run ceiling post 256 "$at"
  run ceiling post 64 "$at"
}

# failover NAME START-ONE FIND: kills who leads, and starts it again, so many times.
failover() {
  local start_one="$2" find="$3" position pid
  "start_$1"
  for ((round = 1; round <= kills; round++)); do
    position=$(cat "$work/primary")
    pid="${pids[position - 1]}"
    load failover --target "$1" --at "$all" --pid "$pid" --round "$round" --out "$json"
    wait "$pid" 2>/dev/null || true
    "$start_one" "$position"
    pids[position - 1]="${pids[-1]}"
    unset 'pids[-1]'
    "$find"
  done
  stop_all
}

require
build
watch_time >/dev/null 2>&1 &
watchdog=$!
place
mkdir -p "$(dirname "$json")"
: >"$json"
for ((round = 1; round <= rounds; round++)); do
  for name in lockstep etcd postgres nats redis floor ceiling; do
    wants "$name" || continue
    say "round $round: $name (${SECONDS} s)"
    "start_$name"
    "measure_$name"
    stop_all
  done
done
if wants failover; then
  say "failover (${SECONDS} s)"
  failover lockstep start_lockstep_node find_lockstep
  failover etcd start_etcd_member find_etcd
  failover nats start_nats_server find_nats
fi

echo "$rounds rounds of $((window / 1000)) s each, $(nproc) cores, $(date --utc +%F); load average at the end: $(cut -d ' ' -f 1 /proc/loadavg)"
echo
load report "$json"
say "done after ${SECONDS} s; every figure: $json"
