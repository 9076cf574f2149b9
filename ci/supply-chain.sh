#!/usr/bin/env bash
# Licences, bans and sources of every dependency (deny.toml); advisories where their database can be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
git ls-files --error-unmatch Cargo.lock >/dev/null
. ci/tools.sh
if ! tool cargo-deny; then
  echo "skipped: cargo-deny is not installed and could not be had (cargo install cargo-deny)"
  exit 0
fi
"$TOOL" check bans licenses sources
if "$TOOL" fetch db >/dev/null 2>&1; then
  "$TOOL" check advisories
else
  echo "skipped: the advisory database cannot be reached"
fi
