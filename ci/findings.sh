#!/usr/bin/env bash
# The studies of docs/findings.md: run to the end, packed into fixtures/findings, and the page written from them.
#   ci/findings.sh run OUT [STUDY…]    mnist, fashion, birds, planted, as-published, lenet, instability (all unless named); resumable
#   ci/findings.sh pack OUT [STUDY…]   what the page needs of those in OUT, to fixtures/findings and docs/findings
#   ci/findings.sh page                writes docs/findings.md from fixtures/findings
#   ci/findings.sh check [OUT]         the page is what the packed records say; with OUT two replicates of the smallest study are run there
#                                      and must agree
# MNIST, FASHION and CUB name folders of data (a study whose folder is missing is skipped, and said so); TICKETLENS the program, default the
# release build; THREADS the threads of a run, default all.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
program=$(realpath "${TICKETLENS:-${CARGO_TARGET_DIR:-$root/target}/release/ticketlens}")
threads=${THREADS:-$(nproc)}
verb=${1:?usage: ci/findings.sh run|pack|page|check [OUT] [STUDY…]}
out=${2:+$(realpath -m "$2")}
shift $(($# > 1 ? 2 : 1))
studies=("$@")
[ ${#studies[@]} -gt 0 ] || studies=(instability planted mnist fashion birds as-published lenet)

data() { # NAME: whether the variable of that name names a folder
  [ -d "${!1:-}" ] && return
  echo "skipped: $1 names no folder" >&2
  return 1
}

study() { # NAME [MORE OPTIONS OF `ticketlens run`]…
  local run=("$program" run --threads "$threads")
  case $1 in
    mnist) data MNIST || return 0; "${run[@]}" mnist --set data.path="$MNIST" --out "$out/mnist" ;;
    fashion) data FASHION || return 0; "${run[@]}" fashion --set data.path="$FASHION" --out "$out/fashion" ;;
    birds) data CUB || return 0; "${run[@]}" cub-small --set data.path="$CUB" --out "$out/birds" ;;
    planted | instability) "${run[@]}" "$1" --out "$out/$1" "${@:2}" ;;
    as-published) JOBS=$threads TICKETLENS=$program bash "$root/ci/ablation.sh" "$out/as-published" ;;
    lenet)
      data MNIST || return 0
      for seed in 0 1 2 3 4; do
        "${run[@]}" lenet-mnist --set data.path="$MNIST" --set seed="$seed" --set replicates=1 --set train.epochs=6 --set floor.twins=0 \
          --set explain.cam_images=100 --set explain.class_images=20 --set explain.random_sets=19 --set explain.partners=4 \
          --set statistics.permutations=999 --set statistics.bootstrap=200 --out "$out/lenet/seed-$seed"
      done
      ;;
    *) echo "there is no study $1" >&2 && exit 2 ;;
  esac
}

case $verb in
  run)
    mkdir -p "${out:?OUT is missing}"
    for name in "${studies[@]}"; do study "$name"; done
    ;;
  pack)
    for name in "${studies[@]}"; do
      if [ -d "${out:?OUT is missing}/$name" ]; then python3 "$root/ci/findings.py" pack "$program" "$out" "$name"; else echo "skipped: $out has no $name" >&2; fi
    done
    ;;
  page) python3 "$root/ci/findings.py" page >"$root/docs/findings.md" ;;
  check)
    python3 "$root/ci/findings.py" page | diff - "$root/docs/findings.md" >&2 ||
      { echo "docs/findings.md is not what its records say: ci/findings.sh page" >&2 && exit 1; }
    if [ -n "$out" ]; then
      mkdir -p "$out"
      study instability --set replicates=2
      python3 "$root/ci/findings.py" agree "$program" "$out/instability"
    fi
    ;;
  *) echo "usage: ci/findings.sh run|pack|page|check [OUT] [STUDY…]" >&2 && exit 2 ;;
esac
