#!/usr/bin/env bash
# How much of the published conclusion is the code? `mnist-corrected`, each defect of the study's code alone, and all of them (docs/as-published.md).
#   ci/ablation.sh OUT [MORE OPTIONS OF `ticketlens run`]…
# Runs are resumable: the same command goes on where it stopped. TICKETLENS names the program (default: the release build), JOBS how many runs go
# side by side, one thread each (default 2; results do not depend on it). Writes OUT/compare.md, .html, .csv and .json.
set -euo pipefail
out=$(realpath -m "${1:?usage: ci/ablation.sh OUT [--set KEY=VALUE]…}")
shift
cd "$(dirname "$0")/.."
program=${TICKETLENS:-${CARGO_TARGET_DIR:-target}/release/ticketlens}
switches="duplicate_leak freeze_below_epsilon prune_batch_norm per_layer_percentile keep_buffers alias_biases
explain_best_validation probability_gradient cam_added_gradients no_random_cavs"
mkdir -p "$out"
export PROGRAM=$program OUT=$out

all=
for switch in $switches; do all+=" --set as_published.$switch=true"; done
{
  echo corrected
  echo "all$all"
  for switch in $switches; do echo "$switch --set as_published.$switch=true"; done
} | xargs -P "${JOBS:-2}" -I{} bash -c '
  set -- $1 "${@:2}"
  name=$1; shift
  "$PROGRAM" run mnist-corrected --threads 1 --out "$OUT/$name" --set name="$name" "$@" >"$OUT/$name.log" 2>&1 ||
    { echo "$name failed: $(tail -1 "$OUT/$name.log")" >&2; exit 255; }
  echo "$name done"
' bash {} "$@"

runs=("$out/corrected")
for switch in $switches all; do runs+=("$out/$switch"); done
for form in md:markdown html:html csv:csv json:json; do
  "$program" compare "${runs[@]}" --format "${form#*:}" --out "$out/compare.${form%%:*}"
done
echo "$out/compare.md"
