#!/bin/sh
# quickstart.sh - from a fresh Debian or Ubuntu to a language model trained on the King James Bible, in a few minutes.
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh

# shellcheck disable=SC2086
need $BUILD_PACKAGES bible-kjv bible-kjv-text
[ -f build/CMakeCache.txt ] || cmake -S . -B build -G Ninja -DGRADUS_TESTS=OFF >/dev/null
cmake --build build -j "$(nproc)" | tail -n 1

text=build/bible.txt
[ -s $text ] || { bible -f gen1:1-rev22:21 >$text.part && mv $text.part $text; }
size=$(wc -c <$text)
[ "$size" = 4404412 ] || echo "note: the Bible's text has $size bytes here, 4404412 are expected"

number=1
while [ -e runs/bible-$number ]; do number=$((number + 1)); done
run=runs/bible-$number
build/gradus train --data $text --set train.minutes=2 --set out=$run

cat <<END

The run is in $run. Three commands to try next:
  build/gradus sample $run --prompt "In the beginning" --tokens 100
  build/gradus train --resume $run --set train.minutes=4
  build/gradus bench model gpt-small
END
