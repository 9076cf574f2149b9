#!/usr/bin/env bash
# The whole gate, by hand and in CI: format, lints (of the device's code too), docs, tests (the README's command), fuzzing, a smoke run of
# the benches, the device program on a pretend GPU, supply chain, workflow files.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never INSTA_UPDATE=no
step() { printf '\n== %s\n' "$*"; }

bash ci/install.sh

step "format"
cargo fmt --all --check
step "lints"
cargo clippy --locked --all-targets -- -D warnings
step "CUDA: types and lints"
bash ci/gpu-check.sh
step "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
step "tests (with two seconds of fuzzing for each reader)"
cargo test --locked
step "the kernels' own tests, with every check of overflow and of unsafe code"
cargo test --locked --profile checked -p ticketlens-kernels
step "killed runs go on (short form of ci/kill.sh), hostile inputs are refused"
python3 ci/kill.py target/debug/ticketlens 5 20
HOSTILE_SECONDS=5 python3 ci/hostile.py target/debug/ticketlens
step "the GitHub Action and the workflow of examples/ci, step by step"
python3 ci/action.py target/debug/ticketlens
step "sweeps on a real Slurm"
bash ci/slurm.sh target/debug/ticketlens
step "the page of findings is what its records say; two replicates of its smallest study are made again"
TICKETLENS=target/debug/ticketlens bash ci/findings.sh check "$(mktemp -d)"
step "benches (smoke: each runs once)"
cargo test --locked --benches
step "CUDA: the device program on a pretend GPU"
bash ci/gpu-pretend.sh
step "PyTorch round trip"
bash ci/pytorch-roundtrip.sh
bash ci/any-model.sh
step "supply chain"
bash ci/supply-chain.sh
step "Rust version"
bash ci/msrv.sh
step "workflow files"
bash ci/workflows.sh
step "mutations still apply"
python3 ci/mutations.py --list | tail -1
step "no photograph is tracked (CUB's terms forbid it; tests draw what they need)"
git ls-files | grep -iE '\.jpe?g$' && exit 1
step "nothing left behind"
find . -path ./target -prune -o -name '*.snap.new' -print | grep . && exit 1
if [ "${CI:-}" = true ]; then git diff --exit-code; fi
echo "gate passed"
