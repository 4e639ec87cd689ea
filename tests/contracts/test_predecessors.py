"""docs/predecessors.md: every config on it is accepted, and every test that it names is there."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "predecessors.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| ")][2:]
CONFIGS = re.findall(r"`(\{.*?\})`", PAGE)
TESTS = sorted(set(re.findall(r"`(tests/[^`]*)`", PAGE)))
TASKS = ("binary", "mature", "gory", "sarcasm", "slapstick")
STRATEGIES = {
    "all at once",
    "weighted",
    "round robin",
    "one at a time",
    "dsg",
    "cl",
    "dw",
    "dcl",
    "dacl",
    "aw",
    "dynamic sampling",
    "dynamic difficulty sampling",
    "gradnorm",
    "naive learnable weights",
}


def test_every_strategy_has_a_config_and_every_fault_a_test():
    named = {match[1] for row in ROWS if (match := re.match(r"\*\*(.+?)\*\*", row[0]))}
    assert named == STRATEGIES
    for row in ROWS:
        assert len(row) == 4, row
        assert bool(row[0]) == row[1].startswith("`{"), row
        assert row[2]
        assert re.fullmatch(r"`tests/[^`]*`", row[3]), row
    assert len(CONFIGS) == len(STRATEGIES) + 1


@pytest.mark.parametrize("text", CONFIGS)
def test_a_config_of_the_page_is_accepted_and_fits_the_tasks(text):
    config = CurriculumConfig.model_validate(yaml.safe_load(text))
    hard = np.arange(90, dtype=np.float32)
    streams = [StreamSpec(name=task, size=90, tasks=(task,), chance={task: 0.7}, difficulty=hard) for task in TASKS]
    setting = Setting(streams=streams, tasks=TASKS, steps_per_epoch=10)
    for part in (config.sampler, config.schedule, config.pacing, config.weighting):
        assert part.build(setting) is not None


def test_a_wrong_name_is_seen():
    with pytest.raises(ValidationError):
        CurriculumConfig.model_validate({"sampler": {"name": "round_robbin"}})


@pytest.mark.parametrize("name", TESTS)
def test_a_test_that_the_page_names_is_there(name):
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_streams_of_the_page_are_those_of_its_tasks():
    streams = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])["streams"]
    assert streams == {task: {"dataset": "clips", "tasks": [task]} for task in TASKS}


def test_the_readme_links_the_page():
    assert "(docs/predecessors.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
