#!/usr/bin/env bash
# All that is asked of a GPU, in at most 8 minutes on a machine with one H100, 16 cores and no network:
#
#     benchmarks/gpu/run.sh OUT            # results in OUT, each written as it comes
#     SMALL=1 benchmarks/gpu/run.sh OUT    # rehearsal at small size without a GPU: the made-up one computes on the CPU
#
# Each step has a time limit of its own and goes on where another failed. `OUT/steps.tsv` has name, exit code (124: out of
# time) and seconds of each; `OUT/results.jsonl` the figures, one JSON object per line; `OUT/<step>.log` what a step said.
# PYTHON is the interpreter to take (default: .venv/bin/python of the checkout, else python3).
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
    # Ray counts a GPU that no machine has.
    export VIDCLF_GPU_DEVICE=cpu CUDA_VISIBLE_DEVICES=GPU-made-up
fi
export RAY_AUTH_MODE=disabled RAY_USAGE_STATS_ENABLED=0 RAY_ADDRESS=local OMP_NUM_THREADS=1
export VIDCLF_CACHE="$out/cache"
results="$out/results.jsonl"

# step NAME SECONDS COMMAND…
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
# Four full-size members at once against one alone.
if [ -f benchmarks/gpu/train_members.py ]; then
    step members 80 "$PYTHON" benchmarks/gpu/train_members.py --results "$results" "${small[@]}"
else
    printf 'members\tmissing: benchmarks/gpu/train_members.py\t0\n' | tee -a "$out/steps.tsv"
fi
step nvdec 10 "$PYTHON" benchmarks/gpu/nvdec.py --results "$results" "${small[@]}"
echo "total $SECONDS s; $results:"
[ -f "$results" ] && cat "$results"
