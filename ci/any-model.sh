#!/bin/sh
# The lines of docs/any-model.md on a VGG, a transformer and a model of one's own: maps against pytorch-grad-cam, concepts against Captum
# and scikit-learn. usage: ci/any-model.sh   (PYTHON and TICKETLENS choose other programs)
set -eu
cd "$(dirname "$0")/.."
. ci/python.sh
beside any-model torch torchvision timm captum pytorch_grad_cam sklearn safetensors
"$python" ci/any-model.py "$TICKETLENS" "$scratch"
