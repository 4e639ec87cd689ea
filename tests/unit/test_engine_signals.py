"""Which signals only set a flag while a run is under way."""

import os
import signal

import pytest
from accelerate import Accelerator

from mmtrain.engine.interrupt import Interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_sets_the_flag_and_the_old_handler_returns(number):
    before = signal.getsignal(number)
    with Interrupt(Accelerator(cpu=True)) as interrupt:
        assert not interrupt.requested()
        os.kill(os.getpid(), number)
        assert interrupt.requested()
    assert signal.getsignal(number) is before


def test_an_ignored_hangup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup leaves
    try:
        with Interrupt(Accelerator(cpu=True)) as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt.requested()
    finally:
        signal.signal(signal.SIGHUP, before)
