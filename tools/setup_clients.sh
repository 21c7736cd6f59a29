#!/bin/sh
# Installs the clients that the tests marked `clients` drive the server with, each in a folder of its own: those of
# Node where Node is present, and those of Python that want other versions of shared libraries than ours. Tests of what
# could not be fetched are skipped, and say so; with CLIENTS=required, as in CI, that is a failure. Idempotent.
set -eu
python=$(command -v "${PYTHON:-python3}")
case $python in
/*) ;;
*) python=$PWD/$python ;;
esac
cd "$(dirname "$0")/../tests/clients"

# Install scripts are not run: no client needs one.
node_client() {
  installed=$1/node_modules/.package-lock.json
  if [ ! -e "$installed" ] || [ "$1/package-lock.json" -nt "$installed" ]; then
    (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund --silent)
  fi
}

python_client() {
  installed=$1/.venv/.done
  if [ ! -e "$installed" ] || [ "$1/requirements.txt" -nt "$installed" ]; then
    "$python" -m venv "$1/.venv"
    "$1/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$1/requirements.txt"
    touch "$installed"
  fi
}

node_clients="typescript ai_sdk aws_sdk claude_code openai_node"
python_clients="python_0x langchain langchain_aws litellm pydantic_ai"

# At the same time, for most of it is waiting.
if command -v npm >/dev/null 2>&1; then
  for client in $node_clients; do
    node_client "$client" &
  done
fi
for client in $python_clients; do
  python_client "$client" &
done
wait

missing=""
for client in $node_clients; do
  [ -e "$client/node_modules/.package-lock.json" ] || missing="$missing $client"
done
for client in $python_clients; do
  [ -e "$client/.venv/.done" ] || missing="$missing $client"
done
if [ -n "$missing" ]; then
  echo "could not be installed, so that their tests will be skipped:$missing"
  [ "${CLIENTS:-}" != required ]
fi
