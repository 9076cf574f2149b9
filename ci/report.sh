#!/usr/bin/env bash
# The report of a small study, as an artefact: ci/report.sh FOLDER. The tests' profile, so that nothing is built twice.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-target/artefacts}" && cd "${1:-target/artefacts}" && pwd)
TICKETLENS_ARTEFACTS="$out" cargo test --locked --test suite -- --exact golden::report_of_the_study golden::contact_sheet_of_every_round
ls -l "$out"
