"""Samples, tokens, rows and padding of two batches, counted by hand."""

from types import SimpleNamespace

import torch
from accelerate import Accelerator

from mmtrain.data.batch import MaskedSequence
from mmtrain.engine.throughput import Throughput


def batch(**lengths):
    """Sequences of these lengths, each padded by one row more than the longest of the modality."""
    inputs = {}
    for name, counts in lengths.items():
        mask = torch.arange(max(counts) + 1) < torch.tensor(counts)[:, None]
        inputs[name] = MaskedSequence(torch.zeros(mask.shape), mask)
    return SimpleNamespace(inputs=inputs)  # of a batch, all that counts


def test_rates_count_what_is_real_and_padding_is_of_the_samples_that_have_the_modality():
    seen = Throughput(seconds=4.0)
    seen.add([batch(text=[3, 1], audio=[0, 5]), batch(text=[2, 2], audio=[0, 0])], samples=10)
    seen.add([batch(text=[7, 0], audio=[1, 1])], samples=10)
    assert seen.record() == {
        "seconds": 4.0,
        "samples_per_second": 5.0,  # 20 in 4 seconds, also where other processes hold the most of them
        "tokens_per_second": 3.75,  # 3 + 1 + 2 + 2 + 7 in 4 seconds
        "rows_per_second": {"audio": 1.75},
        "padding": {"text": round(1 - 15 / (2 * 4 + 2 * 3 + 8), 4), "audio": round(1 - 7 / (6 + 4), 4)},
    }


def test_a_modality_that_nobody_has_is_no_padding_and_a_model_without_text_has_no_tokens():
    seen = Throughput(seconds=2.0)
    seen.add([batch(audio=[0, 0])], samples=2)
    assert seen.record() == {"seconds": 2.0, "samples_per_second": 1.0, "rows_per_second": {"audio": 0.0}, "padding": {}}


def test_tokens_of_a_second_text_are_tokens_too():
    seen = Throughput(seconds=2.0)
    seen.add([batch(text=[3], second_text=[4], audio=[1])], samples=1)
    assert (seen.record()["tokens_per_second"], seen.record()["rows_per_second"]) == (3.5, {"audio": 0.5})


def test_windows_join_to_an_epoch():
    epoch = Throughput()
    for seconds, counts in ((1.0, [4]), (3.0, [2])):
        window = Throughput(seconds=seconds)
        window.add([batch(text=counts)], samples=1)
        epoch.join(window)
    assert (epoch.samples, epoch.seconds, epoch.real, epoch.total) == (2, 4.0, {"text": 6}, {"text": 8})
    epoch.clear()
    assert epoch == Throughput()


def test_one_process_has_the_whole_batch():
    seen = Throughput()
    seen.add([batch(text=[4])], samples=1)
    seen.reduce(Accelerator(cpu=True))
    assert seen.real == {"text": 4}


def test_slices_of_several_processes_are_summed(monkeypatch):
    from mmtrain.engine import throughput

    monkeypatch.setattr(throughput, "sum_over_processes", lambda _, mine: mine + torch.tensor([[10, 20], [30, 40]]))
    seen = Throughput()
    seen.add([batch(text=[4], audio=[6])], samples=2)
    seen.reduce(type("Two", (), {"num_processes": 2, "device": torch.device("cpu")})())
    assert (seen.samples, seen.real, seen.total) == (2, {"text": 14, "audio": 36}, {"text": 25, "audio": 47})
