#!/usr/bin/env bash
# Fuzzes every reader of outside bytes, or those named: ci/fuzz.sh [seconds of the processor for each] [reader]...
# Findings stay in target/fuzz-findings. TICKETLENS_FUZZ_SEED starts another stream. All debug assertions are on, those of dependencies too;
# under `cargo test` the kernels' alone are.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=true TICKETLENS_FUZZ_SECONDS=$seconds cargo test --locked --test fuzz -- "$@"
