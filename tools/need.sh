#!/usr/bin/env bash
# Checks that the machine has what a set-up step needs: tools/need.sh python|npm|git ...
# Installs what is missing with apt where that is possible (Debian or Ubuntu, as root); otherwise says what to install.
set -euo pipefail

python=${PYTHON:-python3}

has() {
    case $1 in
    python) "$python" -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' >/dev/null 2>&1 ;;
    venv) "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
    npm) command -v node >/dev/null && command -v npm >/dev/null ;;
    git) command -v git >/dev/null ;;
    *) echo "tools/need.sh: unknown need '$1'" >&2 && exit 2 ;;
    esac
}

debian_package() {
    case $1 in
    python) echo python3 ;;
    venv) echo python3-venv ;;
    npm) echo "nodejs npm" ;;
    git) echo git ;;
    esac
}

words() {
    case $1 in
    python) echo "Python 3.11 or newer as '$python' (make PYTHON=/path/to/python3 uses another one)" ;;
    venv) echo "Python's venv module with ensurepip" ;;
    npm) echo "Node.js with npm (the pinned agent programs come from the npm registry)" ;;
    git) echo "git" ;;
    esac
}

missing=()
for need in "$@"; do
    has "$need" || missing+=("$need")
done
[ ${#missing[@]} -eq 0 ] && exit 0

packages=()
for need in "${missing[@]}"; do
    read -ra names <<<"$(debian_package "$need")"
    packages+=("${names[@]}")
done

if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "installing with apt-get: ${packages[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq </dev/null >&2
    apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >&2
fi

status=0
for need in "${missing[@]}"; do
    if ! has "$need"; then
        echo "cannot set up: because this machine lacks $(words "$need")." >&2
        status=1
    fi
done
if [ $status -ne 0 ] && command -v apt-get >/dev/null; then
    echo "On Debian: sudo apt-get install ${packages[*]}" >&2
fi
exit $status
