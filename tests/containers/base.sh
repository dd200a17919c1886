#!/usr/bin/env bash
# Makes a stand-in for the base image that the Dockerfile names, for machines that reach no image registry: Debian
# bookworm's packages and a local CPython 3.12, laid out as the public one has them. Takes two minutes. Where an image of
# that name is already there (`podman pull` brings the public one), it does nothing.
#
# PYTHON312: the prefix of a CPython 3.12 with its standard library; by default the newest that pyenv has.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
export CONTAINERS_CONF=$here/containers.conf

tag=docker.io/library/python:3.12-slim-bookworm
if podman image exists "$tag"; then exit 0; fi

python=${PYTHON312:-$(find "${PYENV_ROOT:-$HOME/.pyenv}/versions" -maxdepth 1 -name '3.12.*' 2>/dev/null | sort -V | tail -n 1)}
if [[ ! -x $python/bin/python3.12 ]]; then
  echo "base.sh: no CPython 3.12 here to make $tag of; name its prefix in PYTHON312, or \`podman pull $tag\`" >&2
  exit 1
fi

work=$(mktemp -d)
container=""
# shellcheck disable=SC2329  # the trap calls it
clean() {
  if [[ -n $container ]]; then buildah rm "$container" >/dev/null; fi
  rm -rf "$work"
}
trap clean EXIT

libraries=ca-certificates,libbz2-1.0,libffi8,liblzma5,libncursesw6,libreadline8,libsqlite3-0,libssl3,libuuid1,zlib1g
mmdebstrap --quiet --variant=minbase --include="$libraries,netbase,tzdata" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$work/root.tar"

container=$(buildah from scratch)
root=$(buildah mount "$container")
tar -C "$root" --exclude='./dev/*' -xf "$work/root.tar"
tar -C "$python" --exclude=__pycache__ --exclude='lib/python3.12/config-*' --exclude='lib/python3.12/site-packages/*' \
  --exclude=lib/python3.12/test --exclude=lib/python3.12/idlelib --exclude=lib/python3.12/tkinter \
  -cf - bin/python3.12 lib/python3.12 | tar -C "$root/usr/local" -xf -
find "$python/lib" -maxdepth 1 -name 'libpython3*.so*' -exec cp -a {} "$root/usr/local/lib/" \;
ln -sf python3.12 "$root/usr/local/bin/python3"
ln -sf python3 "$root/usr/local/bin/python"
mkdir -p "$root/usr/local/lib/python3.12/site-packages"
chroot "$root" ldconfig
chroot "$root" python3 -m ensurepip >/dev/null 2>&1
ln -sf pip3 "$root/usr/local/bin/pip"
find "$root/usr/local" -depth -name __pycache__ -exec rm -r {} +

buildah config --env PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 \
  --cmd '["python3"]' "$container"
buildah umount "$container" >/dev/null
buildah commit --quiet "$container" "$tag" >/dev/null
