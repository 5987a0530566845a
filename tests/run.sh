#!/usr/bin/env bash
# All checks of the checkout, on a machine that has nothing but python3: lint, types, import rules, tests.
# Stops at the first that fails. The unit tests also run on the oldest and the newest other Python there is.
#   tests/run.sh            everything
#   tests/run.sh fast       lint, types, import rules, and the unit tests on one Python
set -euo pipefail

root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
cd "$root"
source cluster/environment.sh

case "${1:-}" in
    "" | fast) ;;
    *) echo "usage: tests/run.sh [fast]" >&2; exit 2 ;;
esac

unit_processes=2
cluster_processes=2

check() {
    local title="$1"
    shift
    echo "== $title"
    "$@" || { echo "FAILED: $title" >&2; exit 1; }
}

# The other Pythons from 3.9 on, a path per line, the oldest first: from pyenv where it is, else from PATH.
other_pythons() {
    local own candidate
    own="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    if command -v pyenv >/dev/null; then
        pyenv versions --bare | sed -nE "/^${own/./\\.}\./d; /^3\.[0-9]+\.[0-9]+\$/p" | sort -V |
            while read -r version; do echo "$(pyenv root)/versions/$version/bin/python"; done
    else
        for candidate in python3.9 python3.10 python3.11 python3.12 python3.13 python3.14; do
            if [ "$candidate" != "python$own" ]; then command -v "$candidate" || true; fi
        done
    fi | while read -r candidate; do if is_new_enough "$candidate"; then echo "$candidate"; fi; done
}

unit_tests_on() {
    local version
    version="$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    # Of the development tools only what runs tests: the others' newest releases need not support an old Python.
    # shellcheck disable=SC2046
    prepare_environment "$root/.venvs/$version" "$1" "$root/requirements.txt" \
        $(grep -E '^(pytest|hypothesis)' requirements-dev.txt)
    check "unit tests on Python $version" "$environment_python" -m pytest -n "$unit_processes" tests/unit
}

prepare_environment "$root/.venv" "${PYTHON:-}" "$root/requirements-dev.txt"
python="$environment_python"

check "lint" "$python" -m ruff check .
check "format" "$python" -m ruff format --check .
check "types" "$python" -m mypy
check "types, as on Windows" "$python" -m mypy --platform win32 broker worker producer consumer admin desktop common cluster
# Its script has the path of the environment built in; called so, a checkout that was moved still works.
check "import rules" "$python" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()'
check "unit tests" "$python" -m pytest -n "$unit_processes" tests/unit
if [ "${1:-}" = fast ]; then exit; fi

others="$(other_pythons)"
if [ -z "$others" ]; then
    echo "== unit tests on other Pythons: skipped, this machine has none from 3.9 on"
else
    oldest="$(head -n 1 <<<"$others")" newest="$(tail -n 1 <<<"$others")"
    unit_tests_on "$oldest"
    if [ "$newest" != "$oldest" ]; then unit_tests_on "$newest"; fi
fi

check "cluster tests" "$python" -m pytest -n "$cluster_processes" --dist loadfile tests/cluster
check "desktop app" "$python" -m pytest tests/desktop
check "faults" "$python" -m pytest -n "$cluster_processes" --dist loadfile tests/faults
check "hostile peers" "$python" -m pytest -n "$cluster_processes" --dist loadfile tests/hostile
