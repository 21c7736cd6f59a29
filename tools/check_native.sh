#!/usr/bin/env bash
# Compiles the native extension once more with every warning an error; incremental after the first time.
# Then looks for functions that a file of csrc/isa/ shows to the linker: it might keep that file's copy for everybody,
# AVX-512 instructions included (numpy issue 25274).
set -euo pipefail
cd "$(dirname "$0")/.."

bin=$(cd "${VENV:-.venv}/bin" && pwd)
PATH=$bin:$PATH
cmake -S . -B build/check -DHOKKU_WERROR=ON -DPython_EXECUTABLE="$bin/python" >/dev/null
cmake --build build/check --parallel "$(getconf _NPROCESSORS_ONLN)"

for object in build/check/CMakeFiles/isa_*.dir/csrc/isa/*.o; do
  if nm -C --defined-only --extern-only "$object" | grep -v '_table$'; then
    echo "check_native: $object must show the linker its table only" >&2
    exit 1
  fi
done
