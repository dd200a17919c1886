#!/usr/bin/env bash
# Builds the Dockerfile with podman, asking no image registry.
#
#   build.sh TAG [OPTION of podman build …]
#
# pip in the build uses this machine's certificates, which a proxy may have added its own to.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export CONTAINERS_CONF=$here/containers.conf

if [[ $# -eq 0 ]]; then
  echo "usage: build.sh TAG [OPTION of podman build …]" >&2
  exit 2
fi
tag=$1
shift

"$here/install.sh"
"$here/base.sh"
options=(--format docker --pull=never --network host)
certificates=/etc/ssl/certs/ca-certificates.crt
if [[ -r $certificates ]]; then
  configuration=$(mktemp)
  trap 'rm -f "$configuration"' EXIT
  printf '[global]\ncert = %s\n' "$certificates" >"$configuration"
  options+=(-v "$certificates:$certificates:ro" -v "$configuration:/etc/pip.conf:ro")
fi
podman build "${options[@]}" -t "$tag" "$@" "$here/../.."
