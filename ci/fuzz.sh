#!/usr/bin/env bash
# Fuzzes every reader of outside bytes, or those named: ci/fuzz.sh [seconds of the processor for each] [reader]...
# Findings stay in target/fuzz-findings. TICKETLENS_FUZZ_SEED starts another stream.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
shift || true
TICKETLENS_FUZZ_SECONDS=$seconds cargo test --locked --test fuzz -- "$@"
