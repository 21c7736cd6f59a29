#!/usr/bin/env bash
# Rebuilds the native extension after an edit of csrc/ and puts it where the editable install looks: seconds instead of
# a whole `pip install`. The first call configures build/dev.
set -euo pipefail
cd "$(dirname "$0")/.."

bin=${VENV:-.venv}/bin
PATH=$(cd "$bin" && pwd):$PATH
if [ ! -e build/dev/build.ninja ]; then
  pip install --quiet --no-build-isolation --no-deps --editable . -Cbuild-dir=build/dev
  exit
fi
cmake --build build/dev
cmake --install build/dev --prefix "$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
