#!/usr/bin/env bash
# The device program's checks on a pretend GPU (ci/gpu-pretend/pretend.cpp): all of the host's side and the text of our kernels, without
# a GPU. cuDNN's own algorithms, NVRTC's compilation and speed are what is left to ci/gpu.sh. Needs g++; skips with a reason without it.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v g++ >/dev/null; then
  echo "skipped: g++ is not at hand"
  exit 0
fi
target=${CARGO_TARGET_DIR:-target}
pretend=$target/gpu-pretend
bash ci/gpu-pretend/build.sh "$pretend"
program=$(cargo test --locked --features cudnn --bench gpu --no-run 2>&1 | tee >(cat >&2) | sed -n 's/.*Executable.*(\(.*\)).*/\1/p')
program=$(realpath "$program")
steps=${1:-6}
for how in lazy eager; do
  PRETEND=$how LD_LIBRARY_PATH=$pretend "$program" check --steps "$steps" >"$pretend/$how.txt" ||
    { grep -v '^pass' "$pretend/$how.txt"; echo "the device's checks fail on a pretend GPU ($how)"; exit 1; }
done
# The order in which a GPU happens to do things must not show.
diff "$pretend/lazy.txt" "$pretend/eager.txt"
echo "$(grep -c '^pass' "$pretend/lazy.txt") checks of the device program pass on a pretend GPU, lazy and eager"
