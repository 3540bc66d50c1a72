#!/bin/sh
# Makes the Python environment and the preload libraries that run.sh uses.
#   PEERS_VENV       where (default: .venv-peers beside this script)
#   PEERS_PYTHON     which Python (default: python3)
#   PEERS_TORCH      what to install (default: torch; for example torch==2.13.0)
#   PEERS_PIP_INDEX  another package index, for example PyTorch's own index of CPU-only wheels
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${PEERS_VENV:-$here/.venv-peers}

make_venv() {
    [ -x "$venv/bin/python" ] || "${PEERS_PYTHON:-python3}" -m venv "$venv"
    # PyPI's Linux wheel is the CUDA build: about 5 GB with its libraries, which it needs at import even on a CPU.
    # Triton is the one that a CPU run never loads.
    "$venv/bin/python" -m pip install --quiet ${PEERS_PIP_INDEX:+--index-url "$PEERS_PIP_INDEX"} \
        numpy "${PEERS_TORCH:-torch}"
    "$venv/bin/python" -m pip uninstall --quiet --yes triton
}

# MKL picks slower kernels on other makers' CPUs; it asks this function.
build_mkl_preload() {
    echo 'int mkl_serv_intel_cpu_true(void) { return 1; }' |
        "${CC:-cc}" -O2 -shared -fPIC -x c - -o "$venv/lib/libmklfast.so"
}

find_jemalloc() {
    ldconfig -p | awk '/libjemalloc\.so\.2/ { print $NF; exit }'
}

install_jemalloc() {
    [ -z "$(find_jemalloc)" ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y -q libjemalloc2 >/dev/null
    else
        echo "note: jemalloc not found (install libjemalloc2); run.sh goes without it" >&2
    fi
}

link_jemalloc() {
    library=$(find_jemalloc)
    [ -z "$library" ] || ln -sf "$library" "$venv/lib/libjemalloc.so.2"
}

# torch.compile builds C++ at run time.
check_compiler() {
    command -v g++ >/dev/null || echo "note: g++ not found: torch.compile will fail, only eager mode is measured" >&2
}

make_venv
build_mkl_preload
install_jemalloc
link_jemalloc
check_compiler
"$venv/bin/python" -c 'import torch; print("PyTorch", torch.__version__, "ready")'
