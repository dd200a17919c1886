#!/bin/sh
# Makes the environments of the tools that `python -m benchmarks.peers` compares, under .venvs/peers: 3.9 GB, and what
# tests/servers/install_vllm.sh makes. Safe to run again: what is there already is left as it is.
#
# PYTHON: the interpreter, 3.11 or newer. inference-perf wants 3.12 or newer: PYTHON312 names one where none is found.
# GuideLLM takes the CPU build of torch where pip finds one (PIP_EXTRA_INDEX_URL), else pip's own, which is larger.
set -eu
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1
python=${PYTHON:-python3}
failed=

environment() {  # NAME INTERPRETER PIP_ARGUMENT...: .venvs/peers/NAME, with a mark once it is whole
    name=$1 interpreter=$2
    shift 2
    folder=.venvs/peers/$name
    [ "$(cat "$folder/.installed" 2>/dev/null)" = "$*" ] && return 0
    echo "install.sh: $name" >&2
    rm -rf "$folder"
    if "$interpreter" -m venv "$folder" && "$folder/bin/python" -m pip install --quiet "$@"; then
        printf '%s\n' "$*" > "$folder/.installed"
    else
        failed="$failed $name"
    fi
}

newer() {  # an interpreter of 3.12 or newer
    for candidate in "${PYTHON312:-}" "$python" python3.14 python3.13 python3.12 \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[2-9]*/bin/python3; do
        [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null &&
            echo "$candidate" && return 0
    done
    echo "$python"  # pip says what it wants
}

environment latency-profile "$python" -r requirements.txt
.venvs/peers/latency-profile/bin/python -m pip install --quiet -r requirements.txt || failed="$failed latency-profile"
environment aiperf "$python" "aiperf==0.13.0"
environment guidellm "$python" "torch==2.13.0" "guidellm==0.8.1"
environment inference-perf "$(newer)" "inference-perf==0.7.0"
tests/servers/install_vllm.sh >&2 || failed="$failed vllm"

[ -z "$failed" ] || { echo "install.sh: not installed:$failed" >&2; exit 1; }
