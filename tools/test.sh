#!/usr/bin/env bash
# Runs every check of the project: the CPU build and its tests, the CUDA build and (with a GPU) its tests, the
# parsers' tests and fuzzers under sanitizers, the format and length of the sources. Takes no arguments;
# builds in build-cpu, build-cuda and build-parsers.
set -euo pipefail
# shellcheck source=tools/lib.sh
. "$(dirname "$0")/lib.sh"
(($# == 0)) || die "takes no arguments"

max_file_lines=400
fuzz_seconds=12 # per fuzzer; tools/dev.sh fuzz SECONDS fuzzes for longer
names=() results=() seconds=()
passed=0 failed=0

# stage NAME COMMAND...: runs and times the command in a subshell. The script continues after a failure and
# reports it in the summary.
stage() {
    local name=$1 begin=$SECONDS status
    shift
    say "== $name"
    set +e # `if (...)` instead would disable -e inside the subshell
    (
        set -e
        "$@"
    )
    status=$?
    set -e
    names+=("$name") seconds+=("$((SECONDS - begin))s")
    if ((status == 0)); then results+=(ok); else results+=(FAILED); fi
    return 0
}
skip_stage() {
    say "== $1: $2"
    names+=("$1") seconds+=("-") results+=("$2")
}
last_ok() { [[ ${results[-1]} == ok ]]; }

# Chromium is large and only these tests need it, so they are skipped where it cannot be installed.
browser() { have chromium || { tools/install_deps.sh --browser >/dev/null 2>&1 && have chromium; }; }

# count_in REPORT KEY: prints an attribute of a JUnit report's outermost element, or 0 if it is missing.
count_in() {
    awk -v RS='>' -v key="$2" '/<testsuites? */ {
            if (match($0, "[ \\t\\n]" key "=\"[0-9]+\"")) { count = substr($0, RSTART, RLENGTH) }
            gsub(/[^0-9]/, "", count)
            exit
        }
        END { print count + 0 }' "$1"
}

# test_stage NAME "REPORT..." COMMAND...: a stage whose command writes JUnit reports; their tests are counted.
# A command that ran no test or wrote no report has failed.
test_stage() {
    local name=$1 report reports good=0 bad=0 skipped=0
    read -ra reports <<<"$2"
    shift 2
    rm -f "${reports[@]}"
    stage "$name" "$@"
    for report in "${reports[@]}"; do
        [[ -s $report ]] || continue
        bad=$((bad + $(count_in "$report" failures)))
        skipped=$((skipped + $(count_in "$report" disabled) + $(skipped_in "$report")))
        good=$((good + $(count_in "$report" tests)))
    done
    good=$((good - bad - skipped))
    if ((good + bad == 0)); then
        results[-1]="FAILED: ran no test"
        bad=1
    else
        # A test program that crashes does not count the failure itself.
        last_ok || ((bad > 0)) || bad=1
        results[-1]+=": $good passed, $bad failed"
        ((skipped == 0)) || results[-1]+=", $skipped skipped"
    fi
    passed=$((passed + good)) failed=$((failed + bad))
}
# skipped_in REPORT: prints the number of skipped tests. CTest writes it; GoogleTest 1.12 only marks each test.
skipped_in() {
    local counted
    counted=$(count_in "$1" skipped)
    if ((counted == 0)); then grep -c 'result="skipped"' "$1" || true; else echo "$counted"; fi
}

check_format() {
    local formatter
    formatter=$(clang_format) || die "clang-format 14 is missing: run tools/install_deps.sh --format"
    echo "+ $formatter --dry-run -Werror (every *.h *.cpp *.cu *.cuh *.js)"
    sources '*.h' '*.cpp' '*.cu' '*.cuh' '*.js' | xargs -r "$formatter" --dry-run -Werror
}
check_lengths() {
    echo "+ wc -l: at most $max_file_lines lines per file"
    sources '*.h' '*.cpp' '*.cu' '*.cuh' '*.js' '*.css' '*.html' '*.sh' '*.py' '*.cmake' CMakeLists.txt | xargs -r wc -l |
        awk -v most="$max_file_lines" '$2 != "total" && $1 > most { print "too long: " $2 ", " $1 " lines"; bad = 1 }
                                       END { exit bad }'
}

stage "dependencies" tools/install_deps.sh --format
stage "format" check_format
stage "file lengths" check_lengths
stage "CPU build" cpu_build
if last_ok; then
    test_stage "CPU tests" build-cpu/results.xml cpu_tests -E '^ReportPage' --progress --output-junit results.xml
    if browser; then
        test_stage "report in a browser" build-cpu/page.xml build-cpu/pastur_tests --gtest_brief=1 \
            --gtest_filter='ReportPage.*' --gtest_output=xml:build-cpu/page.xml
    else
        skip_stage "report in a browser" "skipped: no chromium"
    fi
else
    skip_stage "CPU tests" "not run: no build"
    skip_stage "report in a browser" "not run: no build"
fi
if ! nvcc_path >/dev/null; then
    skip_stage "CUDA build" "skipped: no nvcc"
else
    if have_gpu; then stage "CUDA build" cuda_build; else stage "CUDA build" cuda_program_build; fi
    if ! last_ok; then
        skip_stage "CUDA tests" "not run: no build"
    elif have_gpu; then
        test_stage "CUDA tests" build-cuda/results.xml cuda_tests --gtest_output=xml:build-cuda/results.xml
    else
        skip_stage "CUDA tests" "skipped: no GPU"
    fi
fi
stage "sanitizer build" parser_build
if last_ok; then
    test_stage "parsers under sanitizers" build-parsers/results.xml parser_tests \
        --gtest_output=xml:build-parsers/results.xml
    test_stage "fuzzers under sanitizers" "build-parsers/fuzz.xml build-parsers/fuzz.2.xml" \
        fuzz_targets "$fuzz_seconds" --gtest_output=xml:build-parsers/fuzz.xml
else
    skip_stage "parsers under sanitizers" "not run: no build"
    skip_stage "fuzzers under sanitizers" "not run: no build"
fi

say "Summary"
broken=0
for i in "${!names[@]}"; do
    printf '%-26s %7s  %s\n' "${names[i]}" "${seconds[i]}" "${results[i]}"
    [[ ${results[i]} != FAILED* ]] || broken=$((broken + 1))
done
((broken == 0)) || printf '%d of %d stages failed\n' "$broken" "${#names[@]}"
printf '%d passed, %d failed\n' "$passed" "$failed"
((broken == 0))
