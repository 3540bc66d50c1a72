#!/bin/sh
exec "${PEERS_PYTHON:-python3}" "$(dirname "$0")/gpu.py" "$@" # which says what it does
