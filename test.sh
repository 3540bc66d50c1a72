#!/bin/sh
# Installs what the tests need, builds, runs all tests; ctest's summary comes last.
#   test.sh [--sanitize | --coverage] [ctest options...]
#   test.sh --fuzz [RUNS [TARGET...]]
#     --sanitize   under AddressSanitizer and UndefinedBehaviorSanitizer
#     --fuzz       each fuzz target RUNS times (20,000 unless told) from its seeds, with clang and its sanitizers; what
#                  it finds is left in build-fuzz
#     --coverage   prints the line coverage of engine/ before the summary is repeated
set -eu
cd "$(dirname "$0")"
. scripts/install.sh

# The longest input of a target in bytes: what makes many of them short makes a run fast.
longest_input() {
    case $1 in
        call | run) echo 100 ;;
        bpe_train) echo 200 ;;
        corpus | csv | decode | merges | set | split) echo 300 ;;
        encode | settings) echo 500 ;;
        tokenizer_json) echo 4000 ;;
        *) echo 1100 ;;
    esac
}

# Runs the targets one after the other; the first find ends it.
fuzz() {
    runs=${1:-20000}
    [ $# -eq 0 ] || shift
    install_missing "$build_packages" "clang libclang-rt-dev libomp-dev"
    build build-fuzz -DGRADUS_FUZZ=ON -DCMAKE_C_COMPILER=clang
    seeds=$PWD/tests/fuzz/corpus
    export ASAN_OPTIONS=quarantine_size_mb=16:malloc_context_size=8 # fewer pages touched, shorter stacks: twice as fast
    cd build-fuzz
    for target in ${*:-$(ls "$seeds")}; do
        mkdir -p "corpus/$target"
        "tests/fuzz/fuzz_$target" -runs="$runs" -timeout=20 -max_len="$(longest_input "$target")" -rss_limit_mb=4000 \
            -verbosity=0 -print_final_stats=1 "corpus/$target" "$seeds/$target" >"fuzz_$target.log" 2>&1 || {
            tail -n 40 "fuzz_$target.log" >&2
            echo "error: fuzz_$target: found something (the input is named above, in build-fuzz)" >&2
            exit 1
        }
        echo "fuzz $target: $(sed -n 's/stat::number_of_executed_units: *//p' "fuzz_$target.log") runs"
    done
    exit 0
}

test_packages="g++ make libcriterion-dev python3 git ca-certificates dataset-fashion-mnist"
folder=build-test
options=
coverage=
case ${1:-} in
    --fuzz)
        shift
        fuzz "$@"
        ;;
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

cat "$folder/tests/not_run.txt"
summary=$folder/summary.txt
status=0
{
    ctest --test-dir "$folder" -j2 --output-on-failure "$@" || echo "$?" >"$folder/failed"
} | tee "$summary"
if [ -f "$folder/failed" ]; then
    status=$(cat "$folder/failed")
    rm "$folder/failed"
fi
if [ "$coverage" ]; then
    # Threads that count the same line lose counts now and then, and a sum may come out negative.
    gcovr --root . --filter engine/ --exclude-unreachable-branches --gcov-ignore-parse-errors --print-summary \
        "$folder" | grep '^lines'
    sed -n '/tests passed/,$p' "$summary"
fi
exit "$status"
