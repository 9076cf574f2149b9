#!/usr/bin/env bash
# Types and lints of the device's code, without CUDA: the crate with its features, which need nothing at build time, and the package of
# Candle's own operations, whose build script is given a compiler that makes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
cargo clippy --locked --all-targets --features cudnn -- -D warnings
# An empty library must never be linked: a target directory of its own.
NVCC=$PWD/ci/gpu-candle/fake-nvcc.sh CUDARC_CUDA_VERSION=13000 CUDA_COMPUTE_CAP=90 \
  cargo clippy --locked --manifest-path ci/gpu-candle/Cargo.toml --target-dir "$target/gpu-candle-check" -- -D warnings
python3 ci/gpu-table.py --self-test
