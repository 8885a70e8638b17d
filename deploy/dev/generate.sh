#!/bin/sh
# Writes every generated file anew. $1 is the virtual environment's bin folder.
set -eu
bin=$1
"$bin/python" -m schemas.generate
"$bin/python" -m services.rating.openapi
"$bin/python" -m services.runtime.settings_docs
"$bin/python" -m deploy.check --write
