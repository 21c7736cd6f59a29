#!/usr/bin/env bash
# Makes the virtual environment of training/: PyTorch, and beside it what the ordinary one holds. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${VENV:-.venv}
training=${TRAINING_VENV:-.venv-training}
stamp=$training/.setup-done

if [ -e "$stamp" ] && [ ! training/requirements.txt -nt "$stamp" ]; then
  exit 0
fi
"$venv/bin/python" -m venv "$training"
"$training/bin/python" - "$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" <<'PYTHON'
import pathlib
import sys
import sysconfig

beside = pathlib.Path(sysconfig.get_path("purelib"), "hokku-beside.pth")
beside.write_text(f"import site; site.addsitedir({sys.argv[1]!r})\n", "utf-8")
PYTHON
echo "setup: installing PyTorch for training/"
"$training/bin/python" -m pip install --quiet --disable-pip-version-check \
  --constraint constraints.txt --requirement training/requirements.txt
touch "$stamp"
