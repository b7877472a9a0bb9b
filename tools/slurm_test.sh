#!/usr/bin/env bash
# Usage: tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [options of tools/test.py]
# In the environment: GPUS (8), GPUS_PER_NODE (8), CPUS_PER_TASK (5), and
# SRUN_ARGS, further options of srun, as --gres=none for nodes without GPU;
# PYTHON, an interpreter to use instead of that of the environment.
set -euo pipefail

if [ $# -lt 4 ]; then
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
fi
partition=$1
job_name=$2
config=$3
checkpoint=$4
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-8}
per_node=$((gpus < per_node ? gpus : per_node))
here=$(cd "$(dirname "$0")" && pwd)

# SRUN_ARGS is split into words on purpose.
# shellcheck disable=SC2086
PYTHONPATH="$here/..${PYTHONPATH:+:$PYTHONPATH}" srun \
  --partition="$partition" \
  --job-name="$job_name" \
  --gres="gpu:$per_node" \
  --ntasks="$gpus" \
  --ntasks-per-node="$per_node" \
  --cpus-per-task="${CPUS_PER_TASK:-5}" \
  --kill-on-bad-exit=1 \
  ${SRUN_ARGS:-} \
  bash "$here/python.sh" -u "$here/test.py" "$config" "$checkpoint" --launcher slurm "${@:5}"
