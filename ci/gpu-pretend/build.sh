#!/usr/bin/env bash
# build.sh DIR: the pretend CUDA libraries (pretend.cpp) into DIR, with the names by which programs load the real ones. Needs g++.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
source=$here/../../src/kernels/device/cuda/kernels.cu
sed 's/extern "C" __global__/static/' "$source" >"$dir/kernels_for_cpu.inc"
# A kernel waits if __syncthreads stands in it or in what it calls.
grep -oE '^extern "C" __global__ void [a-z_0-9]+' "$source" | awk '{print $5}' | while read -r name; do
  case $name in
    norm_moments | norm_gradient_sums | norm_finish_* | linear | row_products) waits=true ;;
    *) waits=false ;;
  esac
  echo "KERNEL($name, $waits)"
done >"$dir/kernel_names.inc"
g++ -std=c++17 -O2 -ffp-contract=off -fPIC -shared -w -I"$dir" -o "$dir/libcuda.so.1" "$here/pretend.cpp"
ln -sf libcuda.so.1 "$dir/libcudnn.so.9"
ln -sf libcuda.so.1 "$dir/libnvrtc.so.13"
