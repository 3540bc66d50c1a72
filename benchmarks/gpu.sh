#!/bin/sh
# Builds what is not built, tests and measures the CUDA backend on this machine, and writes what came out. Needs a GPU,
# its driver, nvcc and cuBLASLt; no network. Every section has a time limit; all of them together stay under 9 minutes.
#   gpu.sh [--only SECTION,...] [--device DEVICE] [--out FOLDER] [--build FOLDER] [--llmc DIR]
#     --only     of build, tests, sanitizer, ops, models, peers, llmc (default: all)
#     --device   cuda (default), cuda:1, cuda:tf32; cudasim tries this script without a GPU, where figures mean nothing
#     --out      where DATE.md and DATE.jsonl go (default: benchmarks/results/NAME OF THE GPU)
#     --build    default build-gpu
#     --llmc     llm.c's sources, to be built and run beside us
# peers: PyTorch on the same GPU (SDPA, fused AdamW, the fastest of eager, compiled and CUDA graphs) by PEERS_PYTHON, a
# Python that has it with CUDA (default: python3); left out where there is none.
set -eu
cd "$(dirname "$0")/.."

only=build,tests,sanitizer,ops,models,peers,llmc
device=cuda out= build=build-gpu llmc=
while [ $# -gt 0 ]; do
    case $1 in
        --only) only=$2 && shift 2 ;;
        --device) device=$2 && shift 2 ;;
        --out) out=$2 && shift 2 ;;
        --build) build=$2 && shift 2 ;;
        --llmc) llmc=$2 && shift 2 ;;
        *)
            sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
            exit 2
            ;;
    esac
done

wanted() { case ",$only," in *",$1,"*) return 0 ;; *) return 1 ;; esac; }

gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 | tr ' /' '--') || true
[ "$out" ] || out=benchmarks/results/${gpu:-$device}
mkdir -p "$out"
md=$out/$(date +%F).md json=$out/$(date +%F).jsonl log=$build.gpu.log
failed=0
: >"$json"

# section NAME SECONDS COMMAND...: its last lines go to the page, all of it to the log.
section() {
    name=$1 limit=$2
    shift 2
    wanted "$name" || return 0
    echo "== $name: $*" | tee -a "$log"
    status=0
    timeout "$limit" "$@" >"$log.part" 2>&1 || status=$?
    cat "$log.part" >>"$log"
    grep '^{' "$log.part" >>"$json" || true
    {
        printf '\n## %s\n\n`%s`: exit status %s%s\n\n```\n' "$name" "$*" "$status" \
            "$([ "$status" -ne 124 ] || echo " (cut off after $limit s)")"
        grep -v '^{' "$log.part" | grep -v '^\[----\] *$' | tail -n 40
        printf '```\n'
    } >>"$md"
    [ "$status" -eq 0 ] || failed=1
}

{
    printf '# %s, %s\n\n' "${gpu:-$device}" "$(date +%F)"
    printf 'Commit %s; %s; driver %s.\n' "$(git rev-parse --short HEAD)" \
        "$(nvcc --version 2>/dev/null | tail -n 2 | head -n 1 || echo "no nvcc")" \
        "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || echo none)"
} >"$md"

configure() {
    cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES=native &&
        ninja -C "$build" gradus_cli test_cudasim_kernels test_cudasim_train test_cudasim_nets test_cudasim_command \
            "$([ "$device" = cudasim ] && echo gradus_cudasim || echo gradus_cuda)"
}
export GRADUS_TEST_DEVICE="$device" GRADUS_PLUGIN_DIR="$PWD/$build/engine"
[ "$device" != cudasim ] || GRADUS_PLUGIN_DIR=$PWD/$build/tests

if wanted build; then
    echo "== build in $build"
    configure >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        echo "error: $build: the build failed (all of it is in $log)" >&2
        exit 1
    }
fi
section tests 120 "$build/tests/test_cudasim_kernels" --short-filename -j1
section tests 60 "$build/tests/test_cudasim_train" --short-filename -j1
section tests 60 "$build/tests/test_cudasim_nets" --short-filename -j1
section tests 30 "$build/tests/test_cudasim_command" --short-filename -j1
for tool in memcheck racecheck initcheck synccheck; do
    section sanitizer 30 compute-sanitizer --tool "$tool" --error-exitcode 1 "$build/tests/test_cudasim_train" \
        --filter 'cudasim_train/f32*' --no-early-exit -j1
done
section ops 60 "$build/gradus" bench op --device "$device" --json
for model in mlp gpt-small gpt-baby gpt2-124m; do
    section models 30 "$build/gradus" bench model "$model" --device "$device" --json
done

export GRADUS="$build/gradus" DEVICE="$device"
has_peer='import sys, torch; sys.exit(not torch.cuda.is_available())'
if wanted peers && "${PEERS_PYTHON:-python3}" -c "$has_peer" 2>/dev/null; then
    section peers 120 benchmarks/peers/beside.sh gpt2-124m --precision bf16 --batch 32 --context 1024
    section peers 90 benchmarks/peers/beside.sh resnet50 --precision bf16 --batch 64
    section peers 60 benchmarks/peers/beside.sh lstm --precision f32
fi
[ ! "$llmc" ] || section llmc 120 "${PEERS_PYTHON:-python3}" benchmarks/peers/llmc.py "$llmc"
echo "wrote $md and $json"
exit $failed
