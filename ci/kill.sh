#!/usr/bin/env bash
# Kills small studies and lets them go on: ci/kill.sh [random kills] [every n-th rename, fsync and mkdir].
# 50 random kills and every system call by default, about 15 minutes; `ci/kill.sh 5 20` is the short form. Needs strace.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
python3 ci/kill.py target/release/ticketlens "${1:-50}" "${2:-1}"
