#!/usr/bin/env bash
# The proofs of docs/reliability.md, all of them: tests/soak.sh [--seed 1] [--minutes 10] [--only NAME] [--report FILE]
# Prints one line of figures for each proof and writes them to FILE (soak-report.json if left out). In the time that it
# gets each proof does as much as it can of what the issue asks for, says how much that was, and then checks it.
set -euo pipefail

root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
cd "$root"
source cluster/environment.sh
prepare_environment "$root/.venv" "${PYTHON:-}" "$root/requirements-dev.txt"
exec "$environment_python" -m tests.soak --report soak-report.json "$@"
