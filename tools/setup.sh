#!/usr/bin/env bash
# Makes the virtual environment, builds the native extension, installs Hokku and fetches the default model.
# Safe to run again: what is done is not done twice, and with everything in place nothing touches the network.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
stamp=$venv/.setup-done
model=$venv/.model-ready # which cache, and the files of the default model in it
python=$venv/bin/python
export PIP_DISABLE_PIP_VERSION_CHECK=1

fail() { echo "setup: $1" >&2; exit 1; }

find_python() {
  for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer found (install one, or say make PYTHON=/path/to/python3)"
}

install() {
  command -v "${CXX:-c++}" >/dev/null || fail "no C++ compiler found (on Debian: apt install g++; on macOS: xcode-select --install)"
  if ! "$python" -m pip --version >/dev/null 2>&1; then
    local host
    host=$(find_python)
    echo "setup: making $venv with $("$host" --version)"
    "$host" -m venv "$venv" || fail "$host cannot make a virtual environment (on Debian: apt install python3-venv)"
  fi
  echo "setup: installing the build tools"
  local tools=(pip "scikit-build-core>=1.0" "nanobind>=3.0")
  command -v cmake >/dev/null || tools+=(cmake)
  command -v ninja >/dev/null || tools+=(ninja)
  "$python" -m pip install --quiet --constraint constraints.txt "${tools[@]}"
  echo "setup: building the native extension and installing Hokku"
  PATH=$(cd "$venv/bin" && pwd):$PATH "$python" -m pip install --quiet --constraint constraints.txt \
    --no-build-isolation --editable . --group check --group test
  # Fonts are packaged in an old way: pip builds them apart, with what that takes.
  "$python" -m pip install --quiet --constraint constraints.txt --group pictures
}

# Directories count too, so that a deleted source file is noticed.
if [ ! -e "$stamp" ] || [ -n "$(find csrc CMakeLists.txt pyproject.toml constraints.txt -newer "$stamp" -print -quit)" ]; then
  started=$(mktemp)
  install
  mv "$started" "$stamp" # dated before the build, so that an edit made meanwhile builds again
fi

model_is_ready() {
  [ -e "$model" ] && [ "$(head -n 1 "$model")" = "${HOKKU_CACHE_DIR:-}" ] || return
  tail -n +2 "$model" | while read -r file; do [ -e "$file" ] || exit 1; done
}

if ! model_is_ready; then
  echo "setup: fetching and packing the default model"
  found=$("$venv/bin/hokku" models pull --pack)
  { echo "${HOKKU_CACHE_DIR:-}"; echo "$found" | sed 's/.* is at //'; } >"$model"
fi
