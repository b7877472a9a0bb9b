#!/usr/bin/env bash
# Usage: tools/python.sh [arguments of Python]
# Runs PYTHON, or else the Python of the active virtual environment, or else
# the first one on the PATH; says so if it has no torch.
set -euo pipefail

if [ -n "${PYTHON:-}" ]; then
  python=$PYTHON
elif [ -x "${VIRTUAL_ENV:-/nowhere}/bin/python" ]; then
  python=$VIRTUAL_ENV/bin/python
else
  python=$(command -v python || command -v python3 || echo python)
fi
code='import importlib.util as u, sys; sys.exit(not u.find_spec("torch"))'
if ! "$python" -c "$code"; then
  echo "$(hostname): $python does not run or has no torch. Activate the" \
    'environment that has it, or name its interpreter in the environment' \
    'variable PYTHON, as in PYTHON=/path/to/python tools/dist_train.sh ...' >&2
  exit 1
fi
exec "$python" "$@"
