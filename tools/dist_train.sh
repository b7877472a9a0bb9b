#!/usr/bin/env bash
# Usage: tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
# Several machines: the same on each, with NNODES and MASTER_ADDR, the first
# one's address, in the environment; also NODE_RANK (0 to NNODES - 1), or they
# are numbered as they arrive. PORT, if several jobs share a machine. Without
# a GPU, GPUS is the number of processes, and these compute on the CPU.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,6s/^# //p' "$0" >&2
  exit 2
fi
config=$1
gpus=$2
here=$(cd "$(dirname "$0")" && pwd)
host=${MASTER_ADDR:-127.0.0.1}
port=${PORT:-29500}
if [ "${NNODES:-1}" != 1 ] && [ -z "${NODE_RANK:-}" ]; then
  meet=(--rdzv_backend=c10d --rdzv_endpoint="$host:$port" --rdzv_id="$port")
else
  meet=(--node_rank="${NODE_RANK:-0}" --master_addr="$host" --master_port="$port")
fi

PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" python -m torch.distributed.run \
  --nnodes="${NNODES:-1}" \
  "${meet[@]}" \
  --nproc_per_node="$gpus" \
  "$here/train.py" "$config" --launcher pytorch "${@:3}"
