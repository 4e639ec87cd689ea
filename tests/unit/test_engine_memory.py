"""The peak of resident memory: it holds what was given back, until it is forgotten."""

import mmap
import sys

import pytest
import torch

from mmtrain.engine import memory

MIB = 2**20
CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a peak cannot be forgotten")
def test_a_peak_is_remembered_until_it_is_forgotten():
    memory.forget_peak(CPU)
    before = memory.peak_memory(CPU)
    with mmap.mmap(-1, 96 * MIB) as held:  # not from the allocator, which may own freed pages that are resident still
        held.write(b"1" * (96 * MIB))
    peak = memory.peak_memory(CPU)
    assert 90 * MIB < peak - before < 200 * MIB
    memory.forget_peak(CPU)
    assert peak - memory.peak_memory(CPU) > 80 * MIB


def test_where_a_peak_cannot_be_forgotten_nothing_happens(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    memory.forget_peak(CPU)
    assert memory.peak_memory(CPU) > 10 * MIB  # of getrusage


def test_a_gpu_is_asked_for_its_own(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: asked.append(device) or 77)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", asked.append)
    device = torch.device("cuda", 1)
    assert memory.peak_memory(device) == 77
    memory.forget_peak(device)
    assert asked == [device, device]


def test_the_largest_of_the_processes():
    class Two:
        device = CPU

        def gather(self, own):
            return torch.cat([own, torch.tensor([2**50])])

    assert memory.largest_peak(Two()) == 2**50
