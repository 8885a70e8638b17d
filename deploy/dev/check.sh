#!/bin/sh
# Everything that is checked without running the product. $1 is the virtual environment's bin folder.
set -eu
bin=$1
run() { printf '  %-28s' "$1"; shift; if out=$("$@" 2>&1); then echo ok; else echo FAILED; printf '%s\n' "$out"; exit 1; fi; }

run "format (ruff)"            "$bin/ruff" format --check .
run "lint (ruff)"              "$bin/ruff" check .
run "types (mypy --strict)"    "$bin/mypy"
run "layers (import-linter)"   "$bin/lint-imports"
run "generated schemas"        "$bin/python" -m schemas.generate --check
run "schema compatibility"     "$bin/python" -m schemas.compat --check
run "OpenAPI file"             "$bin/python" -m services.rating.openapi --check
run "settings tables"          "$bin/python" -m services.runtime.settings_docs --check
run "catalogue"                "$bin/smartpipe" catalogue lint
"$bin/python" deploy/check.py
