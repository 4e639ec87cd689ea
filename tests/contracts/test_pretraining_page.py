"""docs/pretraining.md: its example is a config, its table has every row in order."""

import re
from pathlib import Path

import yaml

from mmtrain.config import Experiment
from mmtrain.evaluation.retrieval import directions, retrieval_names
from mmtrain.objectives.pretext import PRETEXTS

PAGE = (Path(__file__).parents[2] / "docs" / "pretraining.md").read_text(encoding="utf-8")


def test_the_example_is_an_experiment() -> None:
    values = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0])
    values |= {
        "name": "x",
        "datasets": {"clips": {"store": "a"}, "wild": {"store": "b"}},
        "model": {"text": {"name": "transformers", "path": "x"}, "sequences": {"audio": {"name": "linear"}}},
    }
    experiment = Experiment.model_validate(values)
    assert experiment.task_names == ("align", "match", "funny")


def test_the_table_has_every_row_in_order() -> None:
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == [row.model_fields["name"].default for row in PRETEXTS]


def test_the_metrics_of_the_page_are_given() -> None:
    known = retrieval_names([name for name, _, _ in directions([("text", "audio")])])
    named = re.findall(r"`val/align/([\w@]+)`", PAGE)
    assert len(named) == 4
    assert set(named) <= set(known)
