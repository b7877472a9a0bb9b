#!/usr/bin/env bash
# Usage: tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
# Several machines: the same on each, with NNODES and MASTER_ADDR, the first
# one's address, in the environment; also NODE_RANK (0 to NNODES - 1), or they
# are numbered as they arrive. They wait for each other for WAIT seconds (600).
# PORT, if several jobs share a machine; PYTHON, an interpreter to use instead
# of that of the environment. Without a GPU, GPUS is the number of processes,
# and these compute on the CPU.
set -euo pipefail

if [ $# -lt 3 ]; then
  sed -n '2,8s/^# //p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)

exec bash "$here/torchrun.sh" "$3" "$here/test.py" "$1" "$2" \
  --launcher pytorch "${@:4}"
