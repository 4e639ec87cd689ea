#!/usr/bin/env bash
# cluster.sh start|stop ROOT [PORT]: a Slurm of two nodes on this machine, from Debian's packages, for tests alone. All that it
# writes is below ROOT; it ends no process but those whose numbers it wrote there. `start` prints what is missing where it
# cannot start (exit code 3), else the exports that sbatch and the like need.
#
# Partitions: main (nothing preempts it), low (jobs in `urgent` evict its own: SIGUSR1, 20 s, requeue), urgent.
set -euo pipefail
action=${1:?start or stop} ROOT=${2:?a folder} PORT=${3:-26900}
export PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$ROOT/slurm.conf
DAEMONS=(slurmd-1:slurmd slurmd-2:slurmd slurmctld:slurmctld munged:munged)
# names that are addresses of this machine: nothing has to be added to /etc/hosts for one node to find the other
NODES=(127.0.0.2 127.0.0.3)

pid_of() { # NAME COMMAND: of a daemon that runs and is ours
    local pid
    pid=$(cat "$ROOT/$1.pid" 2>/dev/null) || return 1
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] || return 1
    ! grep -q '^State:.Z' "/proc/$pid/status" || return 1 # nobody may have waited for it yet
    echo "$pid"
}

stop() {
    local daemon name command pid
    if pid_of slurmctld slurmctld >/dev/null; then
        timeout 10 scancel --user "$(id -un)" 2>/dev/null || true
        for _ in $(seq 40); do
            [ -n "$(timeout 5 squeue --noheader 2>/dev/null)" ] || break
            timeout 5 scancel --full --signal=KILL --user "$(id -un)" 2>/dev/null || true
            sleep 0.3
        done
    fi
    for daemon in "${DAEMONS[@]}"; do
        name=${daemon%%:*} command=${daemon##*:}
        pid=$(pid_of "$name" "$command") || continue
        kill -TERM "$pid"
        for _ in $(seq 50); do pid_of "$name" "$command" >/dev/null || break; sleep 0.1; done
        ! pid=$(pid_of "$name" "$command") || kill -KILL "$pid"
    done
}

lacking() {
    local command
    for command in munged slurmctld slurmd sbatch srun; do
        command -v "$command" >/dev/null || { echo "$command is not installed (apt-get install slurmctld slurmd slurm-client munge)" && return; }
    done
}

configure() {
    local user
    user=$(id -un)
    echo "NodeName=${NODES[0]},${NODES[1]} Name=gpu File=/dev/tty[0-3]" >"$ROOT/gres.conf" # files that are there, for GPUs
    cat >"$SLURM_CONF" <<CONF
ClusterName=mmtrain-tests
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$ROOT/munge.socket
CredType=cred/munge
SlurmctldPort=$PORT
SlurmctldPidFile=$ROOT/slurmctld.pid
SlurmdPidFile=$ROOT/slurmd-%n.pid
SlurmctldLogFile=$ROOT/slurmctld.log
SlurmdLogFile=$ROOT/slurmd-%n.log
StateSaveLocation=$ROOT/state
SlurmdSpoolDir=$ROOT/spool-%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
RebootProgram=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=30
MinJobAge=3600
MaxJobCount=2000
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2,defer_batch
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=${SLURM_TEST_CTLD:-preempt_send_user_signal}
PriorityType=priority/basic
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
NodeName=${NODES[0]},${NODES[1]} NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$((PORT + 1))-$((PORT + 2))] CPUs=64 RealMemory=256000 Gres=gpu:4
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL MaxTime=INFINITE PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes=ALL MaxTime=INFINITE PriorityTier=100 PreemptMode=OFF
CONF
}

is_ready() { [ "$(timeout 5 sinfo --noheader --Node --partition main -o %T 2>/dev/null | grep -c idle)" = 2 ]; }

start() {
    local missing number
    missing=$(lacking)
    [ -z "$missing" ] || { echo "$missing" && exit 3; }
    mkdir -p "$ROOT"/{state,spool-"${NODES[0]}",spool-"${NODES[1]}"}
    chmod 755 "$ROOT"
    (umask 077 && head -c 128 /dev/urandom >"$ROOT/munge.key")
    configure
    munged --key-file="$ROOT/munge.key" --socket="$ROOT/munge.socket" --pid-file="$ROOT/munged.pid" \
        --log-file="$ROOT/munged.log" --seed-file="$ROOT/munge.seed"
    slurmctld -f "$SLURM_CONF" </dev/null >>"$ROOT/start.log" 2>&1
    for number in 1 2; do
        slurmd -f "$SLURM_CONF" -N "${NODES[number - 1]}" </dev/null >>"$ROOT/start.log" 2>&1
    done
    for _ in $(seq 300); do is_ready && break; sleep 0.1; done
    for number in 1 2; do ln -sf "slurmd-${NODES[number - 1]}.pid" "$ROOT/slurmd-$number.pid"; done
    if ! is_ready; then
        tail -n 15 "$ROOT"/*.log >&2
        stop
        echo "the nodes did not come up within 30 s" >&2
        exit 1
    fi
    echo "SLURM_CONF=$SLURM_CONF"
    echo "PATH=$PATH"
}

"$action"
