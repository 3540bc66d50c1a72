#!/bin/sh
# test.sh - installs what the tests need, builds, runs all of them; ends with ctest's summary.
#   --sanitize   the same under AddressSanitizer and UndefinedBehaviorSanitizer
#   --coverage   the same with line coverage of engine/, printed at the end
set -eu
cd "$(dirname "$0")"
. scripts/packages.sh

build=build-test
options=""
for argument in "$@"; do
    case $argument in
    --sanitize) build=build-sanitize options="-DGRADUS_SANITIZE=ON" ;;
    --coverage) build=build-coverage options="-DGRADUS_COVERAGE=ON" ;;
    *) echo "error: $argument: no such option (--sanitize, --coverage)" >&2; exit 2 ;;
    esac
done

# shellcheck disable=SC2086
need $BUILD_PACKAGES g++ git python3-minimal libcriterion-dev
[ $build = build-coverage ] && need gcovr
# shellcheck disable=SC2086
cmake -S . -B $build -G Ninja -DGRADUS_TESTS=ON $options >/dev/null
cmake --build $build -j "$(nproc)"

status=0
ctest --test-dir $build --output-on-failure -j "$(nproc)" || status=$?
if [ $build = build-coverage ]; then
    gcovr --root . --filter engine/ --object-directory $build --gcov-ignore-parse-errors | tail -n 4
fi
exit $status
