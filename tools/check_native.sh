#!/usr/bin/env bash
# Compiles the native extension once more with every warning an error; incremental after the first time.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(cd "${VENV:-.venv}/bin" && pwd)
PATH=$bin:$PATH
cmake -S . -B build/check -DHOKKU_WERROR=ON -DPython_EXECUTABLE="$bin/python" >/dev/null
cmake --build build/check --parallel "$(getconf _NPROCESSORS_ONLN)"
