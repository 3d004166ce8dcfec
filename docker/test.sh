#!/usr/bin/env bash
# Tests the cluster in containers: builds the binary, the image and the tests, and runs tests/docker.rs. It needs an engine and
# compose, as a plugin or as docker-compose; no registry. It removes what it makes, except the base image and
# what the engine keeps of a build for the next one.
#
# docker/test.sh [release|dev] [arguments of the tests, such as the name of one]
set -euo pipefail
cd "$(dirname "$0")/.."

profile="${1:-release}"
shift || true
base=debian:bookworm-slim
image_mebibytes_max=60
case "$profile" in
  release) flags=(--release) folder=target/release ;;
  dev) flags=() folder=target/debug ;;
  *) echo "usage: docker/test.sh [release|dev] [arguments of the tests]" >&2 && exit 2 ;;
esac

docker version --format 'engine {{.Server.Version}}, client {{.Client.Version}}'
export LOCKSTEP_IMAGE="lockstep-test:$$"
context="$(mktemp -d)"
trap 'rm -rf "$context"; docker rmi --force "$LOCKSTEP_IMAGE" >/dev/null 2>&1 || true' EXIT

# The same packages as a run of all tests, so that nothing is built a second time after one.
cargo test --workspace "${flags[@]}" --test docker --no-run
docker/base-image.sh "$base"
strip --strip-debug -o "$context/lockstep" "$folder/lockstep"
docker build --quiet --file docker/Dockerfile --tag "$LOCKSTEP_IMAGE" --build-arg BASE="$base" --build-arg BUILDER="$base" \
  --build-arg READY=lockstep "$context"

bytes() {
  docker image inspect --format '{{.Size}}' "$1"
}
mebibytes=$((($(bytes "$LOCKSTEP_IMAGE") - $(bytes "$base")) >> 20))
echo "the image adds $mebibytes MiB to $base"
if ((mebibytes >= image_mebibytes_max)); then
  echo "that is too much: the bar is $image_mebibytes_max MiB" >&2
  exit 1
fi

cargo test --workspace "${flags[@]}" --test docker -- --ignored --nocapture --test-threads=1 "$@"
