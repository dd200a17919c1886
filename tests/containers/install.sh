#!/usr/bin/env bash
# Sees to it that images can be built and run here: installs Debian's packages as root, else names those that are missing.
set -euo pipefail

# The package that brings each command.
declare -A packages=([podman]=podman [buildah]=buildah [runc]=runc [mmdebstrap]=mmdebstrap [catatonit]=catatonit)

missing=()
for command in "${!packages[@]}"; do
  command -v "$command" >/dev/null || missing+=("${packages[$command]}")
done
if [[ ${#missing[@]} -eq 0 ]]; then exit 0; fi
if [[ $(id -u) -ne 0 ]]; then
  echo "install.sh: images cannot be built here without the Debian packages ${missing[*]}" >&2
  exit 1
fi
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" netavark aardvark-dns uidmap >/dev/null
