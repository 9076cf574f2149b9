#!/usr/bin/env bash
# Benches of a change: the gate against its base (BENCH_BASE, or what ci/bench-gate finds), then criterion's output for people.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; then
  command -v valgrind >/dev/null || ($(command -v sudo || true) apt-get update -qq && $(command -v sudo || true) apt-get install -y -qq valgrind) || true
fi
mkdir -p target/bench-gate
ci/bench-gate --self-test 2>&1 | tee target/bench-gate/self-test.txt
ci/bench-gate ${BENCH_BASE:+--base "$BENCH_BASE"} 2>&1 | tee target/bench-gate/gate.txt
cargo bench --locked --bench benches
