#!/bin/sh
# From a fresh Debian or Ubuntu machine to a language model that has read the King James Bible: installs what is
# missing, builds, trains for two minutes, and shows what the model writes. Run again, it installs and builds nothing
# anew.
#   quickstart.sh [gradus train options...]     e.g. quickstart.sh --set train.minutes=10
set -eu
cd "$(dirname "$0")"
. scripts/install.sh

bible=data/kjv.txt
bible_bytes=4404412

install_missing "$build_packages" "bible-kjv bible-kjv-text"
build build -DGRADUS_TESTS=OFF

if [ ! -f "$bible" ]; then
    mkdir -p data
    bible -f gen1:1-rev22:21 >"$bible.part"
    mv "$bible.part" "$bible"
fi
size=$(wc -c <"$bible")
[ "$size" -eq $bible_bytes ] ||
    { echo "error: $bible: has $size bytes, not $bible_bytes (remove it and run this again)" >&2; exit 1; }

number=1
while [ -e "runs/kjv-$number" ]; do number=$((number + 1)); done
run=runs/kjv-$number
echo "training on $bible, at most two minutes"
build/gradus train --data "$bible" --set train.minutes=2 --set out="$run" "$@"

cat <<TEXT

The run is in $run. Three things to try:
  build/gradus sample $run --prompt "In the beginning" --temperature 0.7
  build/gradus train --resume $run --set train.minutes=10
  build/gradus train --data any-text-of-yours.txt
TEXT
