"""docs/scaling.md: its table is the cost model's, and what it says to write is accepted."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig

from benchmarks.cost_model import MACHINES, Work, step
from mmtrain.config_sections import BatchConfig
from mmtrain.config_training import TrainingConfig
from mmtrain.models.config import ModelConfig

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
WORK = Work(layers=12, width=768, vocabulary=30_522, tokens=128, rest=2_800_000)
RATE = 10_000  # samples a second, as measured for the page
SECTIONS = {"model": ModelConfig, "training": TrainingConfig, "batch": BatchConfig}


def test_the_table_of_steps_is_the_cost_model():
    machines = {machine.name: machine for machine in MACHINES}
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if re.match(r"\| [AH]100", line)]
    assert len(rows) == 24
    for name, processes, samples, compute, reduced, loading, total, efficiency, waits in rows:
        machine = machines[name.strip()]
        found = step(WORK, machine, processes=int(processes), samples=int(samples), rate=RATE)
        told = [float(value) for value in re.findall(r"[\d.]+", f"{compute} {reduced} {loading} {total}")]
        seconds = (found.compute, found.communication, found.exposed_communication, found.loading, found.total)
        assert told == pytest.approx([1e3 * value for value in seconds], abs=0.11)
        assert float(efficiency.strip(" %")) == pytest.approx(100 * found.compute / found.total, abs=1.1)
        assert waits.strip() == found.bottleneck


def test_the_numbers_of_the_text():
    assert f"{WORK.parameters / 1e6:.1f} M parameters" in PAGE
    assert f"{WORK.flops / 1e9:.1f} GFLOP" in PAGE


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
def test_what_it_says_to_write_is_accepted(block):
    values = yaml.safe_load(block)
    if "distributed_type" in values:
        assert set(values) <= {field.name for field in dataclasses.fields(ClusterConfig)}
        return
    for name, section in values.items():
        SECTIONS[name].model_validate(section)
