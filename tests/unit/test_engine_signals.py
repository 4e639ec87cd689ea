"""Which signals only set a flag while a run is under way."""

import os
import signal

import pytest
from accelerate import Accelerator

from mmtrain.engine import interrupt as module
from mmtrain.engine import launch
from mmtrain.engine.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_sets_the_flag_and_the_old_handler_returns(number):
    before = signal.signal(number, handler := lambda *_: None)  # in the background a shell ignores some of them
    try:
        with Interrupt(Accelerator(cpu=True)) as interrupt:
            assert not interrupt.requested()
            os.kill(os.getpid(), number)
            assert interrupt.requested()
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)


def test_a_preemption_is_noted_also_where_it_was_ignored_and_never_kills():
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # what keeps a launcher alive, and is inherited from it
    try:
        for handler in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGUSR1, handler)
            with Interrupt(Accelerator(cpu=True)) as interrupt:
                assert not interrupt.requested()
                for _ in range(3):  # it is sent until the process has ended
                    os.kill(os.getpid(), signal.SIGUSR1)
                assert interrupt.requested()
                assert interrupt.preempted
            os.kill(os.getpid(), signal.SIGUSR1)
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_another_signal_is_no_preemption():
    with Interrupt(Accelerator(cpu=True)) as interrupt:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested()
        assert not interrupt.preempted
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_an_ignored_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup leaves
    try:
        with Interrupt(Accelerator(cpu=True)) as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("words", "is_launcher"),
    [
        (["/usr/bin/python", "/env/bin/accelerate", "launch", "train.py"], True),
        (["python", "-m", "accelerate.commands.launch", "train.py"], True),
        (["torchrun", "train.py"], True),
        (["bash", "-c", "accelerate launch train.py"], False),
        (["/bin/bash", "-l"], False),
        (["make", "-C", "x", "y", "accelerate"], False),
        ([], False),
    ],
)
def test_the_death_of_a_launcher_and_of_no_other_parent_is_a_signal(monkeypatch, words, is_launcher):
    monkeypatch.setattr(launch, "_launcher", lambda: (words, {}))
    with Interrupt(Accelerator(cpu=True)) as interrupt:
        assert not interrupt.requested()
        monkeypatch.setattr(module.os, "getppid", lambda: 1)
        assert interrupt.requested() is is_launcher
