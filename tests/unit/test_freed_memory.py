"""Freed memory is used again: no page of it is asked of the system a second time."""

import resource
import sys

import pytest
import torch

from mmtrain.engine import memory
from mmtrain.engine.memory import keep_freed_memory


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_a_tensor_gets_the_pages_of_the_one_before() -> None:
    if not keep_freed_memory():
        pytest.skip("another C library")
    for _ in range(3):  # glibc aligns the first ones apart
        torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
    before = page_faults()
    for _ in range(4):
        torch.empty(64 << 20, dtype=torch.uint8).fill_(1)
    assert page_faults() - before < 4096  # each has 16384 pages


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not keep_freed_memory()
