#!/usr/bin/env bash
# One latency profile from environment variables, as deploy/ sets them; docs/settings.md has the table of them.
#
# An empty variable counts as not set. Exits with the exit code of benchmark_serving.py (2 where a variable is wrong).
# SIGTERM and SIGINT are handed on to the profile, which keeps what it has measured. POST_BENCHMARK_SLEEP_TIME (seconds,
# or "infinity") then keeps the container for `kubectl cp`, unless there is nothing to copy; a signal ends it at once.
# Nothing secret becomes an argument, where `ps` shows it: HF_TOKEN, API keys and headers stay in the environment.
set -euf -o pipefail  # f: a rate of * is no file name

# As the first process of a container this shell gets a signal only from the moment at which it is trapped.
stopped=""
# shellcheck disable=SC2329  # the traps call it
hand_on() { # SIGNAL: to the child that is running, if there is one
  local child
  stopped=$1
  for child in $(jobs -p); do kill -s "$1" "$child" 2>/dev/null || true; done
}
trap 'hand_on TERM' TERM
trap 'hand_on INT' INT

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
arguments=()

refuse() {
  printf '%s\n' "$1" >&2
  exit 2
}

add_values() { # reads lines "FLAG VARIABLE"; a variable that is not empty becomes --FLAG=VALUE
  local flag variable
  while read -r flag variable; do
    if [[ -n ${!variable:-} ]]; then arguments+=("--$flag=${!variable}"); fi
  done
}

add_switches() { # reads lines "FLAG VARIABLE"; a variable that is true becomes --FLAG, one that is false --no-FLAG
  local flag variable
  while read -r flag variable; do
    case "${!variable:-}" in
      "") ;;
      true | True | TRUE | 1 | yes) arguments+=("--$flag") ;;
      false | False | FALSE | 0 | no) arguments+=("--no-$flag") ;;
      *) refuse "$variable: got '${!variable}', takes true or false" ;;
    esac
  done
}

# Rates as flags take them: in this script's variables 0 means unlimited, and blanks separate as commas do.
flag_rates() { # RATES
  local rate joined=""
  for rate in ${1//,/ }; do
    if [[ $rate =~ ^0+(\.0*)?$ || ${rate,,} =~ ^\+?inf(inity)?$ ]]; then rate=inf; fi
    joined+=",$rate"
  done
  printf '%s' "${joined#,}"
}

REQUEST_RATES=$(flag_rates "${REQUEST_RATES:-}")
REQUEST_RATE=$(flag_rates "${REQUEST_RATE:-}")
rates=$REQUEST_RATES,$REQUEST_RATE
if [[ -z ${rates//,/}${CONCURRENCIES:-}${CONFIG:-} ]]; then
  refuse "REQUEST_RATES: got nothing, takes rates separated by commas, such as 1,2,4,8,0 where 0 is unlimited"
fi
if [[ ! ${POST_BENCHMARK_SLEEP_TIME:-0} =~ ^([0-9]+(\.[0-9]+)?|infinity)$ ]]; then
  refuse "POST_BENCHMARK_SLEEP_TIME: got '$POST_BENCHMARK_SLEEP_TIME', takes seconds or infinity"
fi

# The data set is the workload unless another one is asked for.
dummy=${USE_DUMMY_TEXT:-false}
if [[ -z ${PROMPT_DATASET_FILE:-}${INPUT_LEN:-}${CONFIG:-} && $dummy =~ ^(false|False|FALSE|0|no)$ ]]; then
  if [[ ${PROMPT_DATASET:-sharegpt} != sharegpt ]]; then
    refuse "PROMPT_DATASET: got '$PROMPT_DATASET', takes sharegpt, or a path in PROMPT_DATASET_FILE"
  fi
  PROMPT_DATASET_FILE=ShareGPT_V3_unfiltered_cleaned_split.json
fi

# Time bounds a point of a finite rate, a number of prompts one of an unlimited rate, both one of a concurrency.
unlimited=false finite=false
for rate in ${rates//,/ }; do
  if [[ $rate == inf ]]; then unlimited=true; else finite=true; fi
done
if [[ $unlimited == true && $finite == false ]]; then BENCHMARK_TIME_SECONDS=; fi
# shellcheck disable=SC2034  # add_values reads it by name
if [[ $finite == true && $unlimited == false && -n ${BENCHMARK_TIME_SECONDS:-} ]]; then MAX_NUM_PROMPTS=; fi

SAVE_JSON_RESULTS=${SAVE_JSON_RESULTS:-true}

add_values <<'END'
backend BACKEND
endpoint ENDPOINT
host IP
port PORT
url URL
models MODELS
request-timeout REQUEST_TIMEOUT
retries RETRIES
wait-for-server WAIT_FOR_SERVER
tcp-conn-limit TCP_CONN_LIMIT
api-key-file API_KEY_FILE
ca-file CA_FILE
best-of BEST_OF
top-k TOP_K
temperature TEMPERATURE
extra-body EXTRA_BODY
sax-model SAX_MODEL
tokenizer TOKENIZER
dataset PROMPT_DATASET_FILE
input-len INPUT_LEN
input-len-stddev INPUT_LEN_STDDEV
input-len-min INPUT_LEN_MIN
input-len-max INPUT_LEN_MAX
output-len OUTPUT_LEN
output-len-stddev OUTPUT_LEN_STDDEV
output-len-min OUTPUT_LEN_MIN
output-len-max OUTPUT_LEN_MAX
max-input-length INPUT_LENGTH
max-output-length OUTPUT_LENGTH
num-prompts MAX_NUM_PROMPTS
traffic-split TRAFFIC_SPLIT
shared-prefix SHARED_PREFIX
shared-prefix-groups SHARED_PREFIX_GROUPS
nonce NONCE
seed SEED
cache-dir CACHE_DIR
request-rate REQUEST_RATE
request-rates REQUEST_RATES
adaptive-rates ADAPTIVE_RATES
capacity-precision CAPACITY_PRECISION
max-rate MAX_RATE
max-duration MAX_DURATION
concurrencies CONCURRENCIES
benchmark-time-seconds BENCHMARK_TIME_SECONDS
until-ci UNTIL_CI
warmup-seconds WARMUP_SECONDS
cooldown-seconds COOLDOWN_SECONDS
sleep-seconds SLEEP_TIME
arrival ARRIVAL
burstiness BURSTINESS
calibration-cadence CALIBRATION_CADENCE
workers WORKERS
shards SHARDS
shard-index SHARD_INDEX
shard-timeout SHARD_TIMEOUT
file-prefix FILE_PREFIX
output-dir OUTPUT_DIR
output-bucket OUTPUT_BUCKET
output-bucket-filepath OUTPUT_BUCKET_FILEPATH
output-url OUTPUT_URL
upload-patience-seconds UPLOAD_PATIENCE_SECONDS
run-id RUN_ID
additional-metadata-metrics-to-save ADDITIONAL_METADATA_METRICS_TO_SAVE
machine-cost MACHINE_COST
utilization UTILIZATION
compare-with COMPARE_WITH
compare-measure COMPARE_MEASURE
compare-margin COMPARE_MARGIN
compare-since COMPARE_SINCE
goodput GOODPUT
slo SLO
metrics-urls METRICS_URLS
prometheus-url PROMETHEUS_URL
pm-namespace PM_NAMESPACE
pm-job PM_JOB
pm-cluster PM_CLUSTER
pm-project PM_PROJECT
metrics-port METRICS_PORT
termination-log TERMINATION_LOG
config CONFIG
END

add_switches <<'END'
insecure INSECURE
stream-request STREAM_REQUEST
ignore-eos IGNORE_EOS
use-beam-search USE_BEAM_SEARCH
trust-remote-code TRUST_REMOTE_CODE
use-dummy-text USE_DUMMY_TEXT
unique-prompts UNIQUE_PROMPTS
find-warmup FIND_WARMUP
find-capacity FIND_CAPACITY
html-report HTML_REPORT
reset-cache RESET_CACHE
calibrate CALIBRATE
calibration-search CALIBRATION_SEARCH
dry-run DRY_RUN
save-json-results SAVE_JSON_RESULTS
save-aggregated-result SAVE_AGGREGATED_RESULT
resume RESUME
scrape-server-metrics SCRAPE_SERVER_METRICS
stay STAY
END

if [[ -n ${HEADER:-} ]]; then export LATENCY_PROFILE_HEADER=$HEADER; fi
if [[ -n ${API_KEY_ENV:-} ]]; then export LATENCY_PROFILE_API_KEY_ENV=$API_KEY_ENV; fi

# With nothing to do afterwards the profile takes this shell's place, and every signal is its own.
if [[ ${POST_BENCHMARK_SLEEP_TIME:-0} == 0 ]]; then
  case $stopped in TERM) exit 143 ;; INT) exit 130 ;; esac
  trap - TERM INT
  exec "${PYTHON:-python3}" "$here/benchmark_serving.py" "${arguments[@]}"
fi

# A trapped signal interrupts `wait`, so it is called until the child is gone; then it tells the child's own status.
wait_for() { # CHILD
  local status=0
  while kill -0 "$1" 2>/dev/null; do wait "$1" || true; done
  wait "$1" || status=$?
  return "$status"
}

# The shell makes background commands ignore SIGINT; `trap -` takes that back.
(
  trap - INT
  exec "${PYTHON:-python3}" "$here/benchmark_serving.py" "${arguments[@]}"
) &
status=0
profile=$!
if [[ -n $stopped ]]; then hand_on "$stopped"; fi # a signal that came before there was a child to tell
wait_for "$profile" || status=$?

# After 2 nothing was sent, after 3 a Job should try again: there is nothing to wait for.
if [[ -z $stopped && $status != 2 && $status != 3 ]]; then
  sleep "$POST_BENCHMARK_SLEEP_TIME" &
  if [[ -n $stopped ]]; then hand_on "$stopped"; fi # a signal that came before there was a sleep to end
  wait_for $! || true
fi
exit "$status"
