#!/bin/sh
# Installs what the tests need, builds, runs all tests; ctest's summary comes last.
#   test.sh [--sanitize | --coverage] [ctest options...]
#     --sanitize   under AddressSanitizer and UndefinedBehaviorSanitizer
#     --coverage   prints the line coverage of engine/ before the summary is repeated
set -eu
cd "$(dirname "$0")"
. scripts/install.sh

test_packages="g++ make libcriterion-dev python3 git ca-certificates"
folder=build-test
options=
coverage=
case ${1:-} in
    --sanitize)
        folder=build-sanitize
        options=-DGRADUS_SANITIZE=ON
        shift
        ;;
    --coverage)
        folder=build-coverage
        options=-DGRADUS_COVERAGE=ON
        coverage=1
        test_packages="$test_packages gcovr"
        shift
        ;;
esac

install_missing "$build_packages" "$test_packages"
build "$folder" -DGRADUS_TESTS=ON $options

summary=$folder/summary.txt
status=0
{
    ctest --test-dir "$folder" -j2 --output-on-failure --timeout 1200 "$@" || echo "$?" >"$folder/failed"
} | tee "$summary"
if [ -f "$folder/failed" ]; then
    status=$(cat "$folder/failed")
    rm "$folder/failed"
fi
if [ "$coverage" ]; then
    gcovr --root . --filter engine/ --exclude-unreachable-branches --print-summary "$folder" | grep '^lines'
    sed -n '/tests passed/,$p' "$summary"
fi
exit "$status"
