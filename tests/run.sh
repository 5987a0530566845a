#!/usr/bin/env bash
# All checks of the checkout, on a machine that has nothing but python3: lint, types, import rules, tests.
#   tests/run.sh            everything; the unit tests on the oldest and on the newest Python there is
#   tests/run.sh fast       lint, types, import rules, and the unit tests on one Python
#   tests/run.sh environments     only make the environments of the other Pythons, in .venvs
# What has no deadlines runs side by side. What a stage says is printed whole when it ends, at the very end where it failed.
# Tests that failed are run once more, alone; those that pass then are named in the last lines.
set -euo pipefail

# The programs under test, and the tests, are compiled once, not at each of thousands of starts.
unset PYTHONDONTWRITEBYTECODE

root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
cd "$root"
source cluster/environment.sh

case "${1:-}" in
    "" | fast | environments) ;;
    *) echo "usage: tests/run.sh [fast | environments]" >&2; exit 2 ;;
esac

reports="$(mktemp -d)"
trap 'rm -rf "$reports"' EXIT

# check TITLE COMMAND...: one stage. It ends well even where the command fails, so that the others go on.
check() {
    local title="$1" began="$SECONDS" report outcome
    shift
    if [ -e "$reports/.stopping" ]; then exit 130; fi
    report="$(mktemp "$reports/XXXXXX")"
    echo "== $title: did not end" >"$report"
    if "$@" >>"$report" 2>&1; then outcome=passed; else outcome=FAILED; fi
    sed -i "1s/did not end/$outcome after $((SECONDS - began)) s/" "$report"
    if [ "$outcome" = passed ]; then
        print <"$report"
        rm "$report"
    else
        head -n 1 "$report" | print
    fi
}

# tests TITLE PYTHON OPTION...: a stage of tests. What failed is run once more, alone: a deadline may have met a busy
# machine. What passes then only is named at the end, for there is a fault to be found, of the test or of what it tests.
tests() {
    check "$1" try_twice "$@"
}

try_twice() {
    local title="$1" interpreter="$2" again
    shift 2
    again=("$interpreter" -m pytest -o "cache_dir=$reports/.cache/$title")
    if "${again[@]}" "$@"; then return; fi
    if [ -e "$reports/.stopping" ]; then return 130; fi
    again+=("$@" -n 0 --no-cov --last-failed --last-failed-no-failures none)
    "${again[@]}" --collect-only | grep :: >"$reports/.again.$title" || return 1
    echo "-- once more, alone:"
    "${again[@]}" || return 1
    sed "s/^/$title: /" "$reports/.again.$title" >>"$reports/.second-try"
}

# Where two stages end at once, one is printed after the other.
print() {
    (
        if command -v flock >/dev/null; then flock 9; fi
        cat
    ) 9>"$reports/.printing"
}

# All these give way to tests that have deadlines.
static_checks() {
    check "lint" nice -n 19 "$python" -m ruff check .
    check "format" nice -n 19 "$python" -m ruff format --check .
    # Its script has the path of the environment built in; called so, a checkout that was moved still works.
    check "import rules" nice -n 19 "$python" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
    check "types" nice -n 19 "$python" -m mypy
}

# With a cache of its own, for it may run beside the other types.
windows_types() {
    check "types, as on Windows" nice -n 19 "$python" -m mypy --platform win32 --cache-dir .mypy_cache/win32 \
        broker worker producer consumer admin desktop viewer common cluster
}

# The Pythons from 3.9 on, a path per line, the oldest first: this one, and others from pyenv where it is, else from PATH.
pythons() {
    local own candidate
    own="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    {
        echo "$own $python"
        if command -v pyenv >/dev/null; then
            pyenv versions --bare | sed -nE "/^${own/./\\.}\./d; /^3\.[0-9]+\.[0-9]+\$/p" |
                while read -r version; do echo "$version $(pyenv root)/versions/$version/bin/python"; done
        else
            for candidate in 3.9 3.10 3.11 3.12 3.13 3.14; do
                if [ "$candidate" != "$own" ] && command -v "python$candidate" >/dev/null; then
                    echo "$candidate $(command -v "python$candidate")"
                fi
            done
        fi
    } | sort -V | while read -r _ candidate; do if is_new_enough "$candidate"; then echo "$candidate"; fi; done
}

# unit_environment PYTHON: has what the unit tests need installed for it. Sets environment_python and version.
unit_environment() {
    environment_python="$1"
    version="$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    if [ "$1" != "$python" ]; then
        # Of the development tools only what tests need: the others' newest releases need not support an old Python.
        # Compiled is what is imported, when it is: much of this never is.
        # shellcheck disable=SC2046
        prepare_environment "$root/.venvs/$version" "$1" "$root/requirements.txt" --no-compile \
            $(grep -E '^(pytest|hypothesis|keyring|customtkinter|segno|tkinterdnd2|pi-heif)' requirements-dev.txt)
    fi
}

# unit_tests_on PYTHON OPTION...: without what draws at length what no version of Python changes.
unit_tests_on() {
    local version environment_python
    unit_environment "$1"
    shift
    tests "unit tests on Python $version" "$environment_python" -n 2 -m "not one_python" "$@" tests/unit
}

everything() {
    local others environments
    (renice -n 19 -p "$BASHPID" >/dev/null 2>&1 || true; other_environments) &
    environments=$!
    without_deadlines &
    others=$!
    with_deadlines
    wait "$environments" || true  # what could not be installed is tried once more, and then said
    units
    wait "$others"
}

# Beside demos or clusters, so that the unit tests need not wait for it.
other_environments() {
    local version environment_python
    unit_environment "$(pythons | head -n 1)"
    unit_environment "$(pythons | tail -n 1)"
}

fast_checks() {
    windows_types &
    tests "unit tests" "$python" -n 2 tests/unit &
    static_checks
    wait
}

# What no version of Python changes is drawn by tests in a few files: collecting all of them costs as much again.
without_deadlines() {
    local files
    renice -n 19 -p "$BASHPID" >/dev/null 2>&1 || true
    static_checks
    windows_types
    files="$(grep -rl --include "test_*.py" one_python tests/unit)"
    # shellcheck disable=SC2086
    tests "unit tests at length" "$python" -n 2 -m one_python $files
}

# They wait more than they compute, so there are two of them at a time. Beside them runs only what gives way.
with_deadlines() {
    local second
    {
        tests "desktop app" "$python" -n 2 --dist loadfile tests/desktop
        tests "hostile peers" "$python" -n 2 tests/hostile
    } &
    second=$!
    tests "cluster tests" "$python" -n 4 --dist loadfile tests/cluster
    tests "faults" "$python" -n 4 tests/faults  # each has a cluster of its own: no file need stay together
    wait "$second"
}

# What they cover is measured on the newest, where that costs the least.
units() {
    local oldest newest other=""
    oldest="$(pythons | head -n 1)" newest="$(pythons | tail -n 1)"
    if [ "$oldest" != "$newest" ]; then
        # Rewriting each assertion, so that it tells more where it fails, takes as long there as many tests do.
        unit_tests_on "$oldest" --hypothesis-profile=brief --assert=plain &
        other=$!
    else
        echo "== unit tests on another Python: skipped, this machine has no other from 3.9 on"
    fi
    unit_tests_on "$newest" --cov --cov-report=
    if [ -n "$other" ]; then wait "$other"; fi  # fails where that did not begin
}

# Ctrl-C and SIGTERM end the stages, which are a process group of their own for that.
stop() {
    local patience=60
    trap '' INT TERM
    touch "$reports/.stopping"  # so that no further stage begins
    kill -INT -- "-$stages" 2>/dev/null || true
    while kill -0 -- "-$stages" 2>/dev/null && [ $((patience--)) -gt 0 ]; do sleep 1; done
    kill -TERM -- "-$stages" 2>/dev/null || true
    echo "interrupted" >&2
    exit 130
}

if [ "${1:-}" = environments ]; then
    python="${PYTHON:-$(find_python)}"
    other_environments
    exit
fi
prepare_environment "$root/.venv" "${PYTHON:-}" "$root/requirements-dev.txt"
python="$environment_python"

set -m
trap stop INT TERM
if [ "${1:-}" = fast ]; then fast_checks & else everything & fi
stages=$!
failed=()
wait "$stages" || failed+=("stages that did not begin: what was said above ended them")
for report in "$reports"/*; do
    [ -e "$report" ] || continue
    cat "$report"
    failed+=("$(sed -n '1s/^== \(.*\): .*/\1/p' "$report")")
done
if [ -e "$reports/.second-try" ]; then
    sed 's/^/passed only when run once more, alone: /' "$reports/.second-try" >&2
fi
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}" >&2
    exit 1
fi
