#!/bin/sh
# One bench model on a GPU, ours and then PyTorch's in its fastest mode, and their ratio: beside.sh MODEL OPTIONS, the
# options being those that both know. GRADUS is our binary, DEVICE our device, PEERS_PYTHON a Python with PyTorch.
set -eu
cd "$(dirname "$0")/../.."
model=$1 lines=$(mktemp)
shift
trap 'rm -f "$lines"' EXIT
"${GRADUS:-build-gpu/gradus}" bench model "$model" --device "${DEVICE:-cuda}" "$@" --json | grep '"event": *"bench"' |
    tee "$lines"
"${PEERS_PYTHON:-python3}" benchmarks/peers/torch_models.py --model "$model" --device cuda "$@" --seconds 5 --json |
    tee -a "$lines"
"${PEERS_PYTHON:-python3}" benchmarks/peers/compare.py "$lines"
