#!/usr/bin/env bash
# slurm/submit.sh [SBATCH OPTIONS] TEMPLATE [ARGUMENTS]: sbatch, told by site.env what #SBATCH lines cannot read from it.
#
#   slurm/submit.sh --time=8:00:00 slurm/gpu.sbatch configs/clips.yaml training.epochs=20
#
# Options on the command line win over site.env, and site.env over the template's #SBATCH lines.
set -euo pipefail
folder=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
template=
for word in "$@"; do
    case $word in *.sbatch) template=$(basename "$word" .sbatch) && break ;; esac
done
if [ -z "$template" ]; then
    echo "error: no template among the words; there are: $(cd "$folder" && echo *.sbatch)" >&2
    exit 2
fi
if ! command -v sbatch >/dev/null; then
    echo "error: there is no Slurm here: sbatch is not found. Call this on a login node of the cluster" >&2
    exit 2
fi
# shellcheck source=site.env
source "$folder/site.env"
case $template in
cpu | prepare | merge | table) partition=$CPU_PARTITION constraint=$CPU_CONSTRAINT ;;
*) partition=$GPU_PARTITION constraint=$GPU_CONSTRAINT ;;
esac
[ -z "$partition" ] || export SBATCH_PARTITION=$partition
[ -z "$constraint" ] || export SBATCH_CONSTRAINT=$constraint
[ -z "$ACCOUNT" ] || export SBATCH_ACCOUNT=$ACCOUNT
[ -z "$QOS" ] || export SBATCH_QOS=$QOS
export MMTRAIN_SLURM=$folder
exec sbatch "$@"
