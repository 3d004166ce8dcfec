#!/usr/bin/env bash
# Makes sure that the base image is there: pulled if a registry answers, else a stand-in of the same name, made by debootstrap of
# this machine's own release, so that binaries which are built here run in it.
#
# docker/base-image.sh NAME [MIRROR]
set -euo pipefail

name="$1"
mirror="${2:-http://deb.debian.org/debian}"
pull_seconds=60

if docker image inspect "$name" >/dev/null 2>&1; then
  echo "base image $name: there already"
  exit
fi
if timeout "$pull_seconds" docker pull --quiet "$name" >/dev/null 2>&1; then
  echo "base image $name: pulled"
  exit
fi

work="$(mktemp -d)"
trap 'rm -rf --one-file-system "$work"' EXIT
# Unpacked and not configured: a shell, its tools and the C library run like that, and it takes a third of the time.
codename="$(. /etc/os-release && echo "$VERSION_CODENAME")"
if ! debootstrap --foreign --variant=minbase "$codename" "$work/debian" "$mirror" >"$work/log" 2>&1; then
  cat "$work/log" >&2
  exit 1
fi
rm -rf "$work"/debian/{debootstrap,dev,proc,sys} "$work"/debian/var/cache/apt "$work"/debian/usr/share/{doc,man,locale}
tar --create --numeric-owner --directory "$work/debian" . | docker import - "$name" >/dev/null
echo "base image $name: no registry gave it, so it is a minimal Debian $codename, made in $SECONDS s"
