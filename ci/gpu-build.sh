#!/usr/bin/env bash
# gpu-build.sh [OUT]: everything that a GPU machine needs, into OUT (default target/gpu-carry), on a machine without a GPU:
#   ticketlens, gpu        the program and the device program; the ordinary compiler is enough, CUDA is loaded at run time
#   gpu-candle             Candle's own operations, for comparison; needs nvcc, from Python wheels (NO_CANDLE=1 leaves it out)
#   gpu.sh and its parts   `bash gpu.sh` there does the rest
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
out=${1:-$target/gpu-carry}
mkdir -p "$out"
out=$(cd "$out" && pwd)
start=$SECONDS

CARGO_TARGET_DIR=$target cargo build --release --locked --features cudnn --bin ticketlens
gpu=$(CARGO_TARGET_DIR=$target cargo bench --locked --features cudnn --bench gpu --no-run 2>&1 | tee >(cat >&2) | sed -n 's/.*Executable.*(\(.*\)).*/\1/p')
cp "$target/release/ticketlens" "$out/ticketlens"
cp "$(realpath "$gpu")" "$out/gpu"
strip "$out/ticketlens" "$out/gpu"
# The promise of run-time loading: nothing of CUDA among what the loader wants.
if ldd "$out/ticketlens" "$out/gpu" | grep -iE 'cuda|cudnn|nvrtc|cublas'; then
  echo "a program is linked against CUDA"; exit 1
fi
echo "own programs: $((SECONDS - start)) s"

if [ -z "${NO_CANDLE:-}" ]; then
  start=$SECONDS
  eval "$(bash ci/gpu-toolchain.sh "$target/gpu-toolchain" light)"
  export NVCC=$PWD/ci/gpu-candle/nvcc-slim.sh
  # Candle fixes cudarc's `dynamic-linking`; this copy of it loads at run time.
  (cd ci/gpu-candle && cargo fetch -q --locked)
  version=$(sed -n '/^name = "candle-core"/{n;s/version = "\(.*\)"/\1/p}' ci/gpu-candle/Cargo.lock)
  source=$(ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/candle-core-"$version" | head -1)
  package=$target/gpu-candle-package
  rm -rf "$package" && mkdir -p "$package"
  cp -r ci/gpu-candle/src ci/gpu-candle/Cargo.toml ci/gpu-candle/Cargo.lock "$package/"
  cp -r "$source" "$package/candle-core"
  grep -q '"dynamic-linking"' "$package/candle-core/Cargo.toml"
  sed -i 's/"dynamic-linking"/"dynamic-loading"/' "$package/candle-core/Cargo.toml"
  rm -f "$package/candle-core/Cargo.toml.orig"
  (cd "$package" && cargo --config 'patch.crates-io.candle-core.path="candle-core"' build --release --target-dir "$target/gpu-candle")
  cp "$target/gpu-candle/release/gpu-candle" "$out/gpu-candle"
  echo "Candle's own: $((SECONDS - start)) s, $(du -sm "$target/gpu-candle" "$target/gpu-toolchain" | awk '{s += $1} END {print s}') MB on disk"
fi

cp ci/gpu.sh ci/gpu-table.py ci/peers/gpu_torch.py "$out/"
mkdir -p "$out/gpu-record" && cp -r ci/gpu-record/. "$out/gpu-record/"
(cd "$out" && ls -l && du -sm . && tar c . | gzip -1 | wc -c | awk '{printf "%.1f MB packed\n", $1 / 1e6}')
