#!/bin/sh
# Times PyTorch on the bench models, tuned for a CPU, and gradus beside it.
#   run.sh [MODEL...|all] [--stock] [--gradus BINARY] [--repeats N] [-- OPTIONS OF torch_models.py]
#   run.sh MODEL... --gradus BINARY --turns [-- OPTIONS OF by_turns.py]
#   --stock          plain environment, eager mode: what a user gets who tunes nothing
#   --gradus BINARY  runs `BINARY bench model NAME --json` and the peer by turns and prints ours / peer
#   --repeats N      rounds (default 1; with --gradus 3)
#   --turns          both at once, a few steps of the one and a few of the other: for a machine of changing pace
# PEERS_WAIT=passive is better on a machine that others use too: threads that wait do not spin.
# JSON lines go to stdout, remarks to stderr. GRADUS_ARGS is added to gradus's command line.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${PEERS_VENV:-$here/.venv-peers}
python=$venv/bin/python
models= stock= gradus= repeats= turns=
# jemalloc that never returns memory: no page faults after warm-up. (A positive oversize_threshold, often recommended,
# purges big buffers at once and costs more than it saves.)
keep_memory=oversize_threshold:0,dirty_decay_ms:-1,muzzy_decay_ms:-1

usage() {
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit "$1"
}

# The peer's own process gets the environment, so that gradus runs without it.
tuned() {
    preload=$venv/lib/libmklfast.so
    [ ! -e "$venv/lib/libjemalloc.so.2" ] || preload="$preload $venv/lib/libjemalloc.so.2"
    env LD_PRELOAD="$preload" MALLOC_CONF="$keep_memory" \
        OMP_WAIT_POLICY="${PEERS_WAIT:-active}" OMP_PROC_BIND=close OMP_PLACES=cores \
        "$@"
}

peer() {
    model=$1
    shift
    if [ "$stock" ]; then
        "$python" "$here/torch_models.py" --model "$model" --json --mode eager "$@"
    else
        tuned "$python" "$here/torch_models.py" --model "$model" --json --mode best "$@"
    fi
}

ours() {
    # shellcheck disable=SC2086
    "$gradus" bench model "$1" --json ${GRADUS_ARGS:-} | grep '"event": *"bench"'
}

run_model() {
    model=$1
    shift
    if [ "$turns" ]; then
        tuned "$python" "$here/by_turns.py" "$model" "$gradus" "$@"
        return
    fi
    lines=$(mktemp)
    round=0
    while [ "$round" -lt "$repeats" ]; do
        peer "$model" "$@" | tee -a "$lines"
        [ -z "$gradus" ] || ours "$model" | tee -a "$lines"
        round=$((round + 1))
    done
    [ -z "$gradus" ] || "$python" "$here/compare.py" "$lines" >&2
    rm -f "$lines"
}

while [ $# -gt 0 ]; do
    case $1 in
        --stock) stock=1 ;;
        --gradus) gradus=${2:?--gradus needs the path of the binary}; shift ;;
        --repeats) repeats=${2:?--repeats needs a number}; shift ;;
        --turns) turns=1 ;;
        --) shift; break ;;
        -h | --help) usage 0 ;;
        -*) echo "error: $1: unknown option" >&2; usage 2 >&2 ;;
        all) models="gpt2-124m gpt-baby gpt-small mlp lenet resnet18 resnet50 lstm" ;;
        *) models="$models $1" ;;
    esac
    shift
done
[ -x "$python" ] || { echo "error: $python: not found (run setup.sh first)" >&2; exit 1; }
[ -z "$gradus" ] || [ -x "$gradus" ] || { echo "error: --gradus: '$gradus': not a program" >&2; exit 2; }
[ -z "$turns" ] || [ "$gradus" ] || { echo "error: --turns needs --gradus" >&2; exit 2; }
[ "$repeats" ] || { if [ "$gradus" ]; then repeats=3; else repeats=1; fi; }

for m in ${models:-gpt2-124m gpt-baby gpt-small mlp}; do
    run_model "$m" "$@"
done
