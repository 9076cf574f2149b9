#!/usr/bin/env bash
# All the work on a GPU machine, unattended, in at most ten minutes: `bash gpu.sh [RESULTS]` in the folder that ci/gpu-build.sh
# made, or `bash ci/gpu.sh` in the repository, which builds first. Needs the driver, and cuDNN 9 and NVRTC 13 of the machine or of
# its Python packages (PyTorch brings them).
#
#   check.txt    every operation beside the CPU, 200 training steps, determinism, explaining
#   *.jsonl      seconds of every operation: ours, Candle's own, PyTorch's where it is installed
#   table.md     the three side by side, and the gate against the stored record of this GPU model
#   record.json  what to store as gpu-record/MODEL.json to gate later runs
#
# Exit code 1: a check failed, or something is slower than the record. 3: no device.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ ! -x "$here/gpu" ]; then
  cd "$here/.."
  carry=${CARGO_TARGET_DIR:-target}/gpu-carry
  bash ci/gpu-build.sh "$carry" || exit 1
  exec bash "$carry/gpu.sh" "$@"
fi
cd "$here"
results=${1:-results}
mkdir -p "$results"
began=$SECONDS
# Seconds that are left of the ten minutes, but at most so many.
within() { local left=$((590 - SECONDS + began)); [ "$left" -lt "$1" ] && echo "$((left > 1 ? left : 1))" || echo "$1"; }

# Libraries out of Python packages, for what the machine has not where the loader looks.
if [ -z "${GPU_LIBRARIES_AS_THEY_ARE:-}" ]; then
  dirs=$("${PYTHON:-python3}" - <<'PY' || true
import glob, importlib.util, os
spec = importlib.util.find_spec("nvidia")
roots = list(spec.submodule_search_locations) if spec else []
roots += ["/usr/local/cuda", "/usr/local/cuda/targets/x86_64-linux"]
found = []
for name in ["libcudnn.so.9", "libnvrtc.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudart.so.13"]:
    hits = [p for root in roots for p in glob.glob(os.path.join(root, "**", name), recursive=True) if "stubs" not in p]
    if hits and os.path.dirname(hits[0]) not in found:
        found.append(os.path.dirname(hits[0]))
print(":".join(found))
PY
  )
  export LD_LIBRARY_PATH="$dirs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  for d in /usr/local/nvidia/lib64 /usr/local/nvidia/lib; do
    [ -e "$d/libcuda.so.1" ] && export LD_LIBRARY_PATH="$LD_LIBRARY_PATH:$d"
  done
fi

model=$(./gpu name) || { echo "no device on this machine"; exit 3; }
echo "device: $model"
failed=0
step() { # NAME SECONDS COMMAND...
  local name=$1 limit started=$SECONDS
  limit=$(within "$2"); shift 2
  echo "== $name (at most $limit s)"
  timeout -k 5 "$limit" "$@"
  local rc=$?
  echo "   $name: exit code $rc after $((SECONDS - started)) s"
  return $rc
}

step "checks" 240 ./gpu check --steps "${GPU_STEPS:-200}" >"$results/check.txt" 2>&1 || failed=1
grep -vE '^pass' "$results/check.txt"
echo "$(grep -c '^pass' "$results/check.txt") checks passed"
# A study through the program itself: two rounds of the built-in digits.
small=(--set data.train=64 --set data.validation=400 --set data.test=64 --set model.width=2 --set explain.cam_images=10 --set explain.class_images=8
  --set explain.images_per_set=5 --set explain.random_sets=19 --set statistics.permutations=99 --set statistics.bootstrap=99)
[ -n "${GPU_SMALL:-}" ] || small=()
step "a study" 60 ./ticketlens run quick --device cuda --quiet --out "$results/study" --set prune.rounds=1 --set replicates=2 \
  --set train.epochs=1 "${small[@]}" >"$results/study.txt" 2>&1 || { failed=1; tail -5 "$results/study.txt"; }
step "timings" 120 ./gpu time ${GPU_SMALL:+--small} --repeats "${GPU_REPEATS:-20}" --out "$results/ticketlens.jsonl" \
  >"$results/timings.txt" 2>&1 || { failed=1; tail -5 "$results/timings.txt"; }
if [ -x ./gpu-candle ]; then
  step "Candle's own" 60 ./gpu-candle 10 "$results/candle.jsonl" >"$results/candle.txt" 2>&1 || tail -3 "$results/candle.txt"
else
  echo "skipped: gpu-candle was not built"
fi
if "${PYTHON:-python3}" -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
  step "PyTorch" 100 "${PYTHON:-python3}" gpu_torch.py 20 "$results/pytorch.jsonl" >"$results/pytorch.txt" 2>&1 || tail -3 "$results/pytorch.txt"
else
  echo "skipped: PyTorch with CUDA is not installed here"
fi
"${PYTHON:-python3}" gpu-table.py "$model" "$results" gpu-record || failed=1
echo "device work: $((SECONDS - began)) s"
exit $failed
