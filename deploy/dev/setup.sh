#!/bin/sh
# Makes the virtual environment named by $1 with the locked dependencies: with uv if it is there, else venv and pip.
set -eu
venv=$1
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    if command -v python3.11 >/dev/null 2>&1; then
        python=python3.11
    else
        echo "setup: $python is not Python 3.11 or newer; install one and run: make setup PYTHON=/path/to/python3.11" >&2
        exit 1
    fi
fi

if command -v uv >/dev/null 2>&1; then
    echo "setup: making $venv with uv"
    UV_PROJECT_ENVIRONMENT=$venv uv sync --quiet --frozen --python "$python"
else
    echo "setup: making $venv with venv and pip (about a minute)"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
fi
