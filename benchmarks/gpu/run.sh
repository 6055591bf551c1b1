#!/usr/bin/env bash
# Runs all tests and benchmarks that need a GPU. Takes at most 8 minutes on a machine with one H100 and 16 cores, and
# needs no network.
#
#     benchmarks/gpu/run.sh OUT            # writes each result to OUT as soon as it is known
#     SMALL=1 benchmarks/gpu/run.sh OUT    # test of the script without a GPU: small sizes, computed on the CPU
#
# Each step has a time limit. If a step fails, the next ones run nevertheless. Files in OUT:
#
#     steps.tsv        name, exit code (124: time limit reached) and seconds of each step
#     results.jsonl    the figures, one JSON object per line
#     <step>.log       output of the step
#
# The variable PYTHON selects the interpreter (default: .venv/bin/python of the checkout, otherwise python3).
set -uo pipefail
out=$(realpath -m "${1:?usage: benchmarks/gpu/run.sh OUT}")
cd "$(dirname "$0")/../.."
mkdir -p "$out"
if [ -z "${PYTHON:-}" ]; then
    PYTHON=python3
    [ -x .venv/bin/python ] && PYTHON=.venv/bin/python
fi
small=()
if [ -n "${SMALL:-}" ]; then
    small=(--small)
    # Ray needs a GPU to count, so this names one that does not exist.
    export VIDCLF_GPU_DEVICE=cpu CUDA_VISIBLE_DEVICES=GPU-made-up
fi
export RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 RAY_ADDRESS=local OMP_NUM_THREADS=1
export VIDCLF_CACHE="$out/cache"
results="$out/results.jsonl"

# step NAME SECONDS COMMAND…: run the command with a time limit and record exit code and duration
step() {
    local name=$1 limit=$2 started=$SECONDS code
    shift 2
    timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    printf '%s\t%s\t%s\n' "$name" "$code" $((SECONDS - started)) | tee -a "$out/steps.tsv"
}

step machine 10 bash -c 'nvidia-smi; lscpu | grep -E "Model name|^CPU\(s\)"; free -g'
step tests 120 "$PYTHON" -m pytest -q -m gpu -p no:cacheprovider
step cnn 90 "$PYTHON" benchmarks/gpu/cnn.py --results "$results" "${small[@]}"
step synthetic 60 "$PYTHON" benchmarks/gpu/pipeline.py synthetic --results "$results" "${small[@]}"
step quarters 50 "$PYTHON" benchmarks/gpu/pipeline.py quarters --results "$results" "${small[@]}"
step decoding 60 "$PYTHON" benchmarks/gpu/pipeline.py decoding --results "$results" "${small[@]}"
# Training of four full-size ensemble members at once, compared with one.
if [ -f benchmarks/gpu/train_members.py ]; then
    step members 80 "$PYTHON" benchmarks/gpu/train_members.py --results "$results" "${small[@]}"
else
    printf 'members\tmissing: benchmarks/gpu/train_members.py\t0\n' | tee -a "$out/steps.tsv"
fi
step nvdec 10 "$PYTHON" benchmarks/gpu/nvdec.py --results "$results" "${small[@]}"
echo "total $SECONDS s; $results:"
[ -f "$results" ] && cat "$results"
