#!/usr/bin/env bash
# Trains one recipe on the hosts of a file, one rank per slot, by Open MPI, and starts again after a lost rank:
#
#   tools/slurm/mpirun.sh HOSTFILE RECIPE.toml RUN_DIR [--section.key=value ...]
#
# A line of the file is a host and its number of GPUs: `n1 slots=8`. All hosts need the program, the data and the run
# folder under the same paths, and a login without a password.
#
# PASTUR: the program (default build/pastur if there is one, else pastur). PASTUR_LOST_RANKS: starts after a lost rank
# (default 3). PASTUR_MPIRUN_OPTIONS: further options of mpirun, separated by blanks.
set -uo pipefail
if (($# < 3)); then
    echo "usage: $0 HOSTFILE RECIPE.toml RUN_DIR [--section.key=value ...]" >&2
    exit 2
fi
hosts=$1 recipe=$2 run_dir=$3
shift 3
[[ -r $hosts ]] || { echo "$hosts: expected a file with a line \`HOST slots=N\` per host" >&2 && exit 66; }
pastur=${PASTUR:-build/pastur}
[[ -n ${PASTUR:-} || -x $pastur ]] || pastur=pastur
read -ra options <<<"${PASTUR_MPIRUN_OPTIONS:-}"

for ((lost = 0; ; ++lost)); do
    mpirun --hostfile "$hosts" --bind-to none "${options[@]}" "$pastur" train "$recipe" --run "$run_dir" --resume "$@"
    code=$?
    # mpirun exits with 137 if a rank was killed, instead of the 71 of the others.
    ((code == 71 || code == 137)) && ((lost < ${PASTUR_LOST_RANKS:-3})) || exit "$code"
    echo "$(date -Is) exit $code: a rank was lost; starting again from the newest checkpoint" >&2
done
