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
fi
mkdir -p target/coverage
# Left out: the program's own lines, and what trains for minutes when every inlined instruction counts (tests/hypotheses.rs, and in the suite the
# as-published studies, calibrations, whole runs and the portable path).
"$TOOL" llvm-cov --locked --no-report --lib --test acceptance
"$TOOL" llvm-cov --locked --no-report --test suite -- --skip as_published --skip calibration --skip stats_coverage --skip run:: --skip training \
  --skip store:: --skip every_vector_path
report() { "$TOOL" llvm-cov report --ignore-filename-regex 'src/bin/|tests/|tests\.rs' "$@"; }
report --summary-only --json --output-path target/coverage/summary.json
report >target/coverage/summary.txt
total=$(python3 -c 'import json; lines = json.load(open("target/coverage/summary.json"))["data"][0]["totals"]["lines"]; print("%.2f %% of %d lines" % (lines["percent"], lines["count"]))')
echo "covered: $total" | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}"
report --fail-under-lines "$least" >/dev/null
