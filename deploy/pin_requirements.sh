#!/usr/bin/env bash
# Pins what requirements.txt asks for, with hashes, for every Python from 3.9.2 on and every platform: requirements.lock;
# and likewise what the app, the keyring and HEIC need beside it: requirements-desktop.lock, -keyring.lock, -heic.lock.
#   deploy/pin_requirements.sh              the newest releases; run the tests before committing what changed
#   deploy/pin_requirements.sh --audit      asks the vulnerability service about what is pinned for this Python, and stops
# Names no index: the lock installs from whatever index pip is set up for, and the hashes say whether it is the same.
set -euo pipefail

root="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
cd "$root"
source cluster/environment.sh
prepare_environment "$root/.venvs/pinning" "${PYTHON:-}" "$root/requirements.txt" uv pip-audit

if [ "${1:-}" = "--audit" ]; then
    # Strict: what the service does not know, or where it cannot be asked, is no "nothing found".
    for lock in requirements*.lock; do
        "$environment_python" -m pip_audit --strict --require-hashes --disable-pip -r "$lock"
    done
    exit
fi
export UV_CUSTOM_COMPILE_COMMAND="deploy/pin_requirements.sh"
pin() {
    "$environment_python" -m uv pip compile --universal --python-version "$oldest_python" --generate-hashes --upgrade \
        --no-emit-index-url --no-emit-find-links --quiet --output-file "$1.lock" "$1.txt" "${@:2}"
}
pin requirements
# Each with the same releases of what all need, so that they can be installed beside each other.
pin requirements-desktop --constraint requirements.lock
pin requirements-keyring --constraint requirements.lock
pin requirements-heic --constraint requirements.lock
