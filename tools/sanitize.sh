#!/usr/bin/env bash
# The kernels under sanitizers: the programs of csrc/tests/, once with the address and undefined-behaviour sanitizers,
# once with the thread sanitizer.
set -euo pipefail
cd "$(dirname "$0")/.."

PATH=$(cd "${VENV:-.venv}/bin" && pwd):$PATH
for sanitizers in address,undefined thread; do
  build=build/sanitize-${sanitizers%%,*}
  cmake -S . -B "$build" -DHOKKU_NATIVE_TESTS=ON -DHOKKU_WERROR=ON -DHOKKU_SANITIZE=$sanitizers \
    -DCMAKE_BUILD_TYPE=None >/dev/null
  cmake --build "$build" --parallel "$(getconf _NPROCESSORS_ONLN)"
  for test in "$build"/test_*; do
    echo "sanitize: $test"
    "$test"
  done
done
