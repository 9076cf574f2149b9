#!/usr/bin/env bash
# Line coverage of the library by the tests: ci/coverage.sh [least per cent, default 90]. Fails below it; skips without the tools.
# llvm-cov must be of rustc's LLVM: rustup's llvm-tools, or LLVM_COV and LLVM_PROFDATA.
set -euo pipefail
cd "$(dirname "$0")/.."
least=${1:-90}
. ci/tools.sh
if ! tool cargo-llvm-cov; then
  echo "skipped: cargo-llvm-cov is not installed and could not be had (cargo install cargo-llvm-cov)"
  exit 0
fi
if [ -z "${LLVM_COV:-}" ]; then
  rustup component add llvm-tools >/dev/null 2>&1 || true
  llvm=$(find "${CARGO_TARGET_DIR:-target}/tools/venv" -path '*/llvm/bin/llvm-cov' 2>/dev/null | head -1)
  if [ -n "$llvm" ]; then
    export LLVM_COV=$llvm LLVM_PROFDATA=${llvm%cov}profdata
  fi
fi
mkdir -p target/coverage
# The program's own lines and the studies of tests/hypotheses.rs (minutes, instrumented) are left out.
"$TOOL" llvm-cov --locked --lib --test suite --test acceptance --ignore-filename-regex 'src/bin/|tests/|tests\.rs' \
  --fail-under-lines "$least" --summary-only --json --output-path target/coverage/summary.json
"$TOOL" llvm-cov report --ignore-filename-regex 'src/bin/|tests/|tests\.rs' | tee target/coverage/summary.txt | tail -1
