# shellcheck shell=bash
# What every template begins with: the site's surroundings, and `run`, which brings a command through a preemption.
#
# Slurm requeues only what it kills itself, and a command that ends by itself has ended its job: so on SIGUSR1 the command
# saves and makes the file $MMTRAIN_MARKER, and this script requeues the job.
set -uo pipefail
MMTRAIN_SLURM=${MMTRAIN_SLURM:-$SLURM_SUBMIT_DIR/slurm}
# shellcheck source=site.env
source "$MMTRAIN_SLURM/site.env"
if [ -n "$MODULES" ]; then
    # shellcheck disable=SC2086
    module load $MODULES || exit 1
fi
if [ -z "$PYTHON" ]; then
    PYTHON=${MMTRAIN_PYTHON:-.venv/bin/python}
    [ -x "$PYTHON" ] || PYTHON=python
fi
# shellcheck disable=SC2206
PYTHON=($CONTAINER "$PYTHON")

TASK_ID=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}} # of an array: a plain id would requeue all of it
TASK_ID=${TASK_ID:-$SLURM_JOB_ID}
scratch=$(mktemp -d "${SCRATCH:-${TMPDIR:-/tmp}}/mmtrain-$TASK_ID-XXXXXX") || exit 1
trap 'rm -rf "$scratch"' EXIT
[ -z "$SCRATCH" ] || export TMPDIR=$scratch
export MMTRAIN_MARKER=$scratch/PREEMPTED
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}

say() { echo "slurm/job.sh: $*" >&2; }

# run COMMAND...: until it ends. It begins with SIGUSR1 ignored, as launchers must have it, and is sent every one that comes
# here, again and again: one that comes before it listens is lost. The exit code is the command's; where it was preempted,
# the job is requeued and this script ends.
run() {
    local child preempted='' ended=''
    say "job $TASK_ID on $(hostname), start $((${SLURM_RESTART_COUNT:-0} + 1)): $*"
    (trap '' USR1 && exec "$@") &
    child=$!
    trap 'preempted=1' USR1
    trap 'ended=1' TERM # Slurm sends it to every process of the job, and a second one would stop the saving
    while kill -0 "$child" 2>/dev/null; do
        if [ -n "$preempted" ]; then
            kill -USR1 "$child" 2>/dev/null
            sleep 1
        else
            wait "$child"
        fi
    done
    wait "$child"
    come_to_an_end $? "$ended"
}

# run_again COMMAND...: of one that knows no SIGUSR1, and goes on where it was killed.
run_again() {
    local child ended=''
    say "job $TASK_ID on $(hostname), start $((${SLURM_RESTART_COUNT:-0} + 1)): $*"
    "$@" &
    child=$!
    trap 'touch "$MMTRAIN_MARKER"; kill -TERM "$child" 2>/dev/null' USR1
    trap 'ended=1' TERM
    while kill -0 "$child" 2>/dev/null; do
        wait "$child"
    done
    wait "$child"
    come_to_an_end $? "$ended"
}

come_to_an_end() { # EXIT_CODE WHETHER_SIGTERM_CAME
    local code=$1
    if [ -n "$2" ]; then
        say "ended by SIGTERM (exit code $code): canceled, out of time, or Slurm requeues the job"
    elif [ "$code" != 0 ] && [ ! -e "$MMTRAIN_MARKER" ] && is_preempted; then
        say "preempted by SIGTERM instead of SIGUSR1 (exit code $code): waiting for Slurm to requeue the job"
        sleep 3600 & # for a job that has ended before, it does not
        wait $!
    elif [ -e "$MMTRAIN_MARKER" ]; then
        requeue
    fi
    return "$code"
}

is_preempted() { scontrol show job "$SLURM_JOB_ID" | grep -q 'PreemptTime=[0-9]'; }

requeue() {
    if scontrol requeue "$TASK_ID"; then
        say "preempted; job $TASK_ID is requeued"
        exit 0
    fi
    say "preempted, and the job could not be requeued: submit it again, and it goes on where it was"
    exit 75
}

# launch ARGUMENTS...: train on every node of the job, a process for each of its GPUs (one where it has none). srun hands its
# SIGUSR1 to all of them; the nodes meet at the first one's name, at a port that follows from the job's number.
launch() {
    local processes=${SLURM_GPUS_ON_NODE:-1} address launcher
    export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
    export OMP_NUM_THREADS=$(((SRUN_CPUS_PER_TASK + processes - 1) / processes))
    address=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    launcher=("${PYTHON[@]}" -m accelerate.commands.launch --mixed_precision no --dynamo_backend no
        --num_machines "$SLURM_NNODES" --num_processes $((SLURM_NNODES * processes))
        --main_process_ip "$address" --main_process_port $((20000 + SLURM_JOB_ID % 20000)) --rdzv_backend static)
    [ $((SLURM_NNODES * processes)) = 1 ] || launcher+=(--multi_gpu)
    # a shell on each node, for only there its number is known; a launcher must not hear the signal, it would die of it
    # shellcheck disable=SC2016
    run srun --ntasks-per-node=1 --kill-on-bad-exit=1 \
        bash -c 'trap "" USR1; n=$1; shift; exec "${@:1:n}" --machine_rank "$SLURM_NODEID" -m mmtrain.train "${@:n+1}"' \
        launch "${#launcher[@]}" "${launcher[@]}" "$@"
}
