#!/bin/sh
# Counts the instructions of one training step of the bench models, on one thread: stable where times are noisy.
#   callgrind.sh BINARY [MODEL...]     default: mlp gpt-small
# Prints a line per model: its name, instructions a step, instructions from the start of the process to the end of the
# first step. The kernels are those of device cpu:base: valgrind calls a function for each lane of a fused
# multiply-add, and gpt-small would run for an hour. About a minute and a half for both models.
set -eu

binary=${1:?callgrind.sh needs the path of the gradus binary}
shift
command -v valgrind >/dev/null || { echo "error: valgrind: not found (apt-get install valgrind)" >&2; exit 1; }
[ -x "$binary" ] || { echo "error: '$binary': not a program" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT

# One run of a few steps, with counts written out and set back to zero after each of them.
for model in ${*:-mlp gpt-small}; do
    valgrind --tool=callgrind --callgrind-out-file="$folder/$model" --dump-after=grd_step_run \
        "$binary" bench model "$model" --device cpu:base --threads 1 --steps 1 >/dev/null 2>"$folder/log" ||
        { cat "$folder/log" >&2; exit 1; }
    first=$(sed -n 's/^totals: //p' "$folder/$model.1")
    last=$(sed -n 's/^totals: //p' "$folder/$model.4") # after two of warm-up: what every further step takes
    echo "$model $last $first"
done
