#!/usr/bin/env bash
# Usage: tools/torchrun.sh PROCESSES SCRIPT [arguments of the script]
# What tools/dist_train.sh and tools/dist_test.sh share.
set -euo pipefail

processes=$1
script=$2
here=$(cd "$(dirname "$0")" && pwd)
nodes=${NNODES:-1}
host=${MASTER_ADDR:-127.0.0.1}
port=${PORT:-29500}
wait=${WAIT:-600}
if [ "$nodes" != 1 ] && [ -z "${NODE_RANK:-}" ]; then
  meet=(--rdzv_backend=c10d --rdzv_endpoint="$host:$port" --rdzv_id="$port"
    --rdzv_conf="join_timeout=$wait,read_timeout=$wait")
else
  meet=(--node_rank="${NODE_RANK:-0}" --master_addr="$host"
    --master_port="$port" --rdzv_conf="timeout=$wait")
fi
if [ "$nodes" != 1 ]; then
  echo "$(hostname), machine ${NODE_RANK:-without NODE_RANK}: waiting up to" \
    "$wait seconds (WAIT) until all $nodes machines (NNODES) meet at" \
    "$host:$port (MASTER_ADDR, PORT)." >&2
fi

PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" exec bash "$here/python.sh" \
  -m torch.distributed.run \
  --nnodes="$nodes" \
  "${meet[@]}" \
  --nproc_per_node="$processes" \
  "$script" "${@:3}"
