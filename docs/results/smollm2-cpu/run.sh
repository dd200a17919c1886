#!/bin/sh
# Makes the results beside this file, on a machine with two CPU cores and nothing else running:
#
#   docs/results/smollm2-cpu/run.sh llamacpp|vllm
#
# after `make test` (llama.cpp and its model) and `make test-vllm` (vLLM and its model). OUT takes the files.
set -eu
cd "$(dirname "$0")/../../.."
OUT=${OUT:-results} PORT=${PORT:-8090}
mkdir -p "$OUT"

profile() { # NAME BACKEND RATES …: 64 tokens in, 32 out
    name=$1 backend=$2 rates=$3
    shift 3
    timeout 600 sh -c "until curl -sf -o /dev/null http://127.0.0.1:$PORT/health; do sleep 1; done"
    code=0
    .venv/bin/python benchmark_serving.py --backend="$backend" --host=127.0.0.1 --port="$PORT" --models=smollm2-135m \
        --tokenizer="$tokenizer" --request-rates="$rates" --benchmark-time-seconds=60 --input-len=64 --output-len=32 --ignore-eos \
        --stream-request --scrape-server-metrics --slo="ttft:p90<1s, e2e:p90<5s, errors<1%" --save-json-results \
        --output-dir="$OUT/$name" "$@" >"$OUT/$name.txt" || code=$?
    [ "$code" -eq 0 ] || [ "$code" -eq 4 ] || exit "$code" # 4: a point that must not be used, which is a result too
}

model=$(pwd)/.venvs/vllm/models/smollm2-135m
tokenizer=$model
case $1 in
llamacpp) # four slots, one thread
    gguf=$(find .venv -name 'SmolLM2-135M-Instruct.Q4_1.gguf' | head -n 1)
    .venv/bin/python tests/servers/llamacpp.py "$gguf" "$PORT" smollm2-135m >"$OUT/llamacpp.log" 2>&1 &
    trap 'kill $!; wait $!' EXIT
    profile llamacpp llamacpp 0.25,0.5,0.75,1,1.5,2
    ;;
vllm)
    .venvs/vllm/bin/python -m vllm.entrypoints.openai.api_server --model "$model" --served-model-name smollm2-135m \
        --host 127.0.0.1 --port "$PORT" --dtype bfloat16 --max-model-len 2048 --max-num-seqs 16 --enforce-eager \
        --no-enable-prefix-caching >"$OUT/vllm.log" 2>&1 &
    trap 'kill $!; wait $!' EXIT
    profile vllm vllm 0.25,0.5,1,1.5,2
    ;;
*)
    echo "$0 llamacpp|vllm" >&2
    exit 2
    ;;
esac
