#!/bin/sh
# Installs the official clients that the tests marked `clients` drive the server with: the TypeScript SDK where Node
# is present, and a Python SDK of 2024 in an environment of its own. Without it those tests are skipped. Idempotent.
set -eu
python=$(command -v "${PYTHON:-python3}")
case $python in
/*) ;;
*) python=$PWD/$python ;;
esac
cd "$(dirname "$0")/../tests/clients"

if command -v npm >/dev/null 2>&1; then
  if [ ! -e typescript/node_modules/.package-lock.json ] ||
     [ typescript/package-lock.json -nt typescript/node_modules/.package-lock.json ]; then
    (cd typescript && npm ci --no-audit --no-fund --silent) ||
      echo "npm could not fetch the TypeScript SDK: its tests will be skipped"
  fi
else
  echo "node is not installed: the TypeScript tests will be skipped"
fi

if [ ! -e python_0x/.venv/.done ] || [ python_0x/requirements.txt -nt python_0x/.venv/.done ]; then
  "$python" -m venv python_0x/.venv
  if python_0x/.venv/bin/python -m pip install --quiet --disable-pip-version-check -r python_0x/requirements.txt; then
    touch python_0x/.venv/.done
  else
    echo "pip could not fetch the Python SDK of 2024: its tests will be skipped"
  fi
fi
