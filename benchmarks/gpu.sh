#!/bin/sh
# All that a session on a GPU or TPU should measure, into one JSON file: benchmarks/gpu.sh [--out FILE] [--small]
set -eu
cd "$(dirname "$0")/.."
KERAS_BACKEND=jax PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" benchmarks/gpu.py "$@"
