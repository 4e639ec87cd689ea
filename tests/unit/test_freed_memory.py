"""Freed memory is used again, and no page of it is asked of the system a second time, until the peak is forgotten."""

import subprocess
import sys

import pytest

from mmtrain.engine import memory
from mmtrain.engine.memory import keep_freed_memory

# in a process of its own: what is asked of the C library holds until its end
CODE = """
import resource, torch
from mmtrain.engine.memory import forget_peak, keep_freed_memory, own_peak

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

SIZE = 60 << 20
print(keep_freed_memory())
assert not any(bytearray(SIZE)[:1])
before = faults()
for _ in range(8):
    assert not any(bytearray(SIZE)[:1])
print((faults() - before) * 4096 / SIZE)
forget_peak(torch.device("cpu"))
rest = own_peak()
assert not any(bytearray(4 * SIZE)[:1])
print((own_peak() - rest) / SIZE)
forget_peak(torch.device("cpu"))
print((own_peak() - rest) / SIZE)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_what_comes_next_gets_the_pages_of_what_was_before() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    kept, faults, risen, left = done.stdout.split()
    if kept == "False":
        pytest.skip("another C library")
    assert float(faults) < 3  # of eight times the size
    assert float(risen) == pytest.approx(4, abs=0.3)
    assert float(left) < 0.5, "what is free is still held"


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not keep_freed_memory()
