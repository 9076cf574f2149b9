#!/bin/sh
# The lines of docs/any-model.md on a VGG, a transformer and a model of one's own: maps against pytorch-grad-cam, concepts against Captum
# and scikit-learn. usage: ci/any-model.sh   (PYTHON and TICKETLENS choose other programs)
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if ! "$python" -c 'import torch, torchvision, timm, captum, pytorch_grad_cam, sklearn, safetensors' 2>/dev/null; then
    echo "any-model: skipped, $python has no torch, torchvision, timm, captum, grad-cam, scikit-learn and safetensors (set PYTHON)"
    exit 0
fi
if [ -z "${TICKETLENS:-}" ]; then
    cargo build --quiet --bin ticketlens
    TICKETLENS=${CARGO_TARGET_DIR:-target}/debug/ticketlens
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" ci/any-model.py "$TICKETLENS" "$scratch"
