#!/usr/bin/env bash
# A Tessera cluster on this machine, with nothing but python3 installed: makes .venv, then runs cluster/cluster.py.
#   ./run_cluster.sh [IMAGE]                the demo: store an image, kill two of six devices, restore it
#   ./run_cluster.sh --help                 the rest
set -euo pipefail

root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd)"
source "$root/cluster/environment.sh"

prepare_environment "$root/.venv" "${PYTHON:-}" "$root/requirements.txt"
exec "$environment_python" "$root/cluster/cluster.py" "$@"
