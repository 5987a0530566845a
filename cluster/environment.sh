# The Python environments of run_cluster.sh and tests/run.sh, which source this in bash with set -e.
# `prepare_environment` makes a virtual environment, installs into it what it lacks, and says which Python it has.

oldest_python="3.9.2"

# prepare_environment FOLDER PYTHON FILE [PACKAGE...]: in FOLDER, install the requirements of FILE and the packages.
# Where PYTHON is empty, an environment that works is kept, else one is found on PATH. Sets environment_python.
prepare_environment() {
    local folder="$1" python="$2" file="$3" stamp wanted
    shift 3
    if [ -n "$python" ] && ! is_new_enough "$python"; then
        echo "$python does not run, or is older than Python $oldest_python" >&2
        return 2
    fi
    # The stamp says what was installed last, and for which Python: unchanged means nothing to do.
    stamp="$folder/.installed-$(basename "$file")"
    wanted="$(cat "$(dirname "$file")/requirements.txt" "$file" | cksum) $*"
    locate_interpreter "$folder"
    if fits "$python" && [ "$(cat "$stamp" 2>/dev/null)" = "$(python_version "$environment_python") $wanted" ]; then
        return
    fi
    mkdir -p "$folder"
    (
        # Two that start at once take turns, by a lock on the folder. Only this subshell holds it: a cluster that is
        # left running must not.
        if command -v flock >/dev/null; then flock 9; fi
        if ! { fits "$python" && "$environment_python" -c 'import pip' 2>/dev/null; }; then
            make_environment "$folder" "$python"
            locate_interpreter "$folder"
        fi
        wanted="$(python_version "$environment_python") $wanted"
        if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
            echo "installing $(basename "$file") into $folder (the first time takes a minute)" >&2
            "$environment_python" -m pip install --quiet --disable-pip-version-check -r "$file" "$@"
            echo "$wanted" >"$stamp"
        fi
    ) 9<"$folder"
    locate_interpreter "$folder"
}

make_environment() {
    local python="$2"
    if [ -z "$python" ]; then python="$(find_python)"; fi
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "$python cannot make virtual environments" >&2
        echo "  Debian, Ubuntu: apt install python3-venv" >&2
        return 2
    fi
    "$python" -m venv --clear "$1"
}

find_python() {
    local candidate
    for candidate in python3 python python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    echo "Tessera needs Python $oldest_python or newer, and there is none on PATH" >&2
    echo "  install it (Debian, Ubuntu: apt install python3 python3-venv), or set PYTHON=/path/to/python3" >&2
    return 2
}

# Whether the command $1 runs and is new enough. (On Windows, "python3" may be a stub that only opens a shop.)
is_new_enough() {
    "$1" -c "import sys; sys.exit(sys.version_info < tuple(map(int, '$oldest_python'.split('.'))))" >/dev/null 2>&1
}

# Whether environment_python runs and, where a Python $1 is asked for, is of its version.
fits() {
    is_new_enough "$environment_python" || return 1
    [ -z "$1" ] || [ "$(python_version "$environment_python")" = "$(python_version "$1")" ]
}

# Sets environment_python: in bin/ everywhere but on Windows.
locate_interpreter() {
    environment_python="$1/bin/python"
    if [ -e "$1/Scripts/python.exe" ]; then environment_python="$1/Scripts/python.exe"; fi
}

python_version() {
    "$1" -c 'import platform; print(platform.python_version())'
}
