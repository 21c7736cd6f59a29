#!/usr/bin/env bash
# Compiles the kernels for 64-bit Arm and runs the programs of csrc/tests/ under an emulator, with and without the
# dot-product instructions. Needs a cross compiler and QEMU (on Debian: apt install g++-aarch64-linux-gnu qemu-user).
set -euo pipefail
cd "$(dirname "$0")/.."

for flags in "" "-march=armv8.2-a+dotprod"; do
  build=build/arm${flags:+-dotprod}
  cmake -S . -B "$build" -DHOKKU_NATIVE_TESTS=ON -DHOKKU_WERROR=ON -DCMAKE_SYSTEM_NAME=Linux \
    -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_CXX_FLAGS="$flags" \
    -DCMAKE_EXE_LINKER_FLAGS=-static >/dev/null
  cmake --build "$build"
  for test in "$build"/test_*; do
    qemu-aarch64 "$test"
  done
done
