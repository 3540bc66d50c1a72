#!/bin/sh
# Counts the instructions of one training step of the bench models, on one thread: stable where times are noisy.
#   callgrind.sh BINARY [MODEL...]     default: mlp gpt-small
# Prints a line per model: its name, instructions a step, instructions from the start of the process to the end of the
# first step. A step is the difference of runs with one timed step more.
set -eu

binary=${1:?callgrind.sh needs the path of the gradus binary}
shift
command -v valgrind >/dev/null || { echo "error: valgrind: not found (apt-get install valgrind)" >&2; exit 1; }
[ -x "$binary" ] || { echo "error: '$binary': not a program" >&2; exit 2; }

# instructions MODEL STEPS
instructions() {
    log=$(mktemp)
    if ! valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" bench model "$1" --threads 1 \
        --steps "$2" >/dev/null 2>"$log"; then
        cat "$log" >&2
        rm "$log"
        exit 1
    fi
    sed -n 's/.*Collected : //p' "$log"
    rm "$log"
}

for model in ${*:-mlp gpt-small}; do
    few=$(instructions "$model" 1)
    more=$(instructions "$model" 2)
    echo "$model $((more - few)) $few"
done
