"""Freed memory is used again: no page of it is asked of the system a second time."""

import resource
import sys

import pytest

from mmtrain.engine import memory
from mmtrain.engine.memory import keep_freed_memory

SIZE = 60 << 20


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_what_comes_next_gets_the_pages_of_what_was_before() -> None:
    if not keep_freed_memory():
        pytest.skip("another C library")
    assert not any(bytearray(SIZE)[:1])
    before = page_faults()
    for _ in range(8):
        assert not any(bytearray(SIZE)[:1])
    assert page_faults() - before < 3 * SIZE // 4096  # of eight times as many


def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    assert not keep_freed_memory()
