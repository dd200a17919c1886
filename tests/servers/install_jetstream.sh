#!/bin/sh
# Makes .venvs/jetstream from nothing: JetStream's gRPC orchestrator with its mock engine, on JAX for CPUs.
# About 3.2 GB on disk. Safe to run again: what is there already is left as it is. PYTHON: the interpreter, 3.11.
set -eu
cd "$(dirname "$0")/../.."

jetstream=0.2.2
venv=.venvs/jetstream
python=$venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1

installed() {  # NAME VERSION: whether this version of the distribution is in the environment
    "$python" -c 'import sys; from importlib.metadata import version; sys.exit(version(sys.argv[1]) != sys.argv[2])' \
        "$1" "$2" 2>/dev/null
}

[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$venv"

if ! installed google-jetstream "$jetstream"; then
    "$python" -m pip install "google-jetstream==$jetstream" || {
        echo "install_jetstream.sh: no JetStream: pip found no google-jetstream $jetstream" >&2
        exit 1
    }
fi

# It asks for no version of JAX, and pip takes one that its other requirements cannot work with.
if ! installed jax 0.4.35; then
    "$python" -m pip install jax==0.4.35 jaxlib==0.4.35 flax==0.10.2
fi
