#!/bin/sh
# Checkpoints there and back: what PyTorch saves, the program reads to the same logits; what the library saves, torchvision's names
# load strictly to the same logits. usage: ci/pytorch-roundtrip.sh   (PYTHON and TICKETLENS choose other programs)
set -eu
cd "$(dirname "$0")/.."
. ci/python.sh
beside pytorch-roundtrip torch torchvision safetensors
# The library writes its checkpoints here (the test skips nothing; it is an ordinary test when run without the variable).
TICKETLENS_SAVE_CHECKPOINTS="$scratch/ours" cargo test --quiet --test acceptance -- --exact checkpoints::saved_weights_are_read_back_bit_for_bit >/dev/null
"$python" ci/pytorch-roundtrip.py "$TICKETLENS" "$scratch"
