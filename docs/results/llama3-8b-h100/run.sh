#!/bin/sh
# Makes the results beside this file, on a machine with one H100 and nothing else running:
#
#   MODEL=…/llama3-8b docs/results/llama3-8b-h100/run.sh offline|dataset|serve|beside
#
# MODEL is a folder with the config and the tokenizer of Llama-3-8B; weights are random (--load-format dummy), as the cost
# of a token does not depend on what it says. PYTHON has vLLM and this project's requirements. OUT takes the files.
set -eu
cd "$(dirname "$0")/../../.."
PYTHON=${PYTHON:-python3} OUT=${OUT:-results}
H100_PRICE=3.00 # $ an hour: an assumption; every cost scales with it
mkdir -p "$OUT"

offline() { "$PYTHON" benchmark_offline.py --engine=vllm --model="$MODEL" --load-format=dummy --gpu-price="$H100_PRICE" "$@"; }

case $1 in
offline) # four studies, two loads of the model
    offline --study=all --batch-sizes=1,2,4,8,16,32,64,128 --output-dir="$OUT/offline"
    ;;
dataset) # the seed's throughput run: 1,000 prompts, 566 tokens in and 228 out
    offline --study=dataset --input-len=566 --output-len=228 --num-prompts=1000 --num-batches=3 --output-dir="$OUT/dataset"
    ;;
serve) # what `beside` measures; ends with SIGTERM
    exec "$PYTHON" -m vllm.entrypoints.cli.main serve "$MODEL" --load-format=dummy --max-model-len=8192 \
        --served-model-name=llama3-8b --no-enable-prefix-caching --host=127.0.0.1 --port=8000
    ;;
beside) # a profile of six rates with GPU telemetry, and `vllm bench serve` after each point at the same rate
    "$PYTHON" -m benchmarks.beside_vllm_bench --url=http://127.0.0.1:8000 --model=llama3-8b --tokenizer="$MODEL" \
        --python="$(command -v "$PYTHON")" --rates=2,4,8,16,32,inf --seconds=30 --burst=1000 --output="$OUT/served" \
        -- --machine-cost="$H100_PRICE"
    ;;
*)
    echo "$0 offline|dataset|serve|beside" >&2
    exit 2
    ;;
esac
