# Sourced by the other scripts: finds a suitable Python.

# PYTHON=/path/to/python selects one; otherwise the first that runs and is new enough.
find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            if ! "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
                printf '%s cannot make environments. On Debian or Ubuntu: apt install python3-venv\n' "$candidate" >&2
                return 1
            fi
            printf '%s\n' "$candidate"
            return 0
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>&1 || true)
    printf 'thresher needs Python 3.11 or newer; found: %s\n' "${found:-none}" >&2
    printf 'Install one, or name it: make PYTHON=/path/to/python3.11 demo\n' >&2
    return 1
}

# Recreates the environment if its Python no longer runs or its folder was moved.
make_environment() {
    if [ ! -x "$1/bin/python" ] || ! "$1/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        rm -rf "$1"
        printf 'Making %s with %s ...\n' "$1" "$("$python" --version)" >&2
        "$python" -m venv "$1"
    fi
}
