"""Stands for Python in a batch script: it, and each process that it would launch, says when it hears SIGUSR1, and ends."""

import os
import signal
import sys
from pathlib import Path

WORDS = sys.argv[1:]
HOW = {name: WORDS[WORDS.index(name) + 1] for name in ("--num_processes", "--num_machines") if name in WORDS}


def note(what: str, number: int) -> None:
    name = os.environ["SLURM_JOB_NAME"]
    (Path(os.environ["PROBES"]) / f"{name}-{what}-{os.environ.get('SLURM_NODEID', '0')}-{number}").touch()


def wait_for_the_signal(number: int) -> None:
    def hear(*_: object) -> None:
        note("heard", number)
        Path(os.environ["MMTRAIN_MARKER"]).touch()
        os._exit(0)

    signal.signal(signal.SIGUSR1, hear)
    if "data_prep" in WORDS:  # which does not know the signal
        signal.signal(signal.SIGTERM, hear)
    note("listens", number)
    while True:
        signal.pause()


if int(os.environ.get("SLURM_RESTART_COUNT", "0")):
    sys.exit(0)
if "accelerate.commands.launch" not in WORDS:
    wait_for_the_signal(0)
children = []
for worker in range(int(HOW["--num_processes"]) // int(HOW["--num_machines"])):
    if (pid := os.fork()) == 0:
        wait_for_the_signal(worker)
    children.append(pid)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
