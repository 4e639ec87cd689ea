"""docs/evaluation.md says what there is: perturbations with their levels, fusions with attention, a pacing that loads."""

import re
from pathlib import Path

import yaml

from mmtrain.analysis.attention import attentive_fusions
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.pacing.difficulty.data_map import DataMapConfig
from mmtrain.evaluation.perturbation import PERTURBATIONS
from mmtrain.evaluation.robustness import MOST_MODALITIES, default_levels, plan_looks

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def test_the_table_of_perturbations() -> None:
    lines = [line.split("|") for line in PAGE.splitlines() if re.match(r"\| `\w+` \| (every|features|texts)", line)]
    shown = {cells[1].strip(" `"): tuple(float(level) for level in cells[4].split(",")) for cells in lines}
    assert shown == {row.name: row.levels for row in PERTURBATIONS}
    assert list(shown) == [row.name for row in PERTURBATIONS]


def test_the_numbers_of_evaluations() -> None:
    looks = plan_looks({"text": "text", "audio": "features", "video": "features"}, default_levels(), repeats=1, seed=0)
    assert f"the defaults are {len({look.same for look in looks})} evaluations" in PAGE
    assert f"for at most {MOST_MODALITIES} modalities" in PAGE


def test_the_fusions_with_attention() -> None:
    sentence = PAGE.partition("Recorded for the fusions ")[2].partition(";")[0]
    assert re.findall(r"`(\w+)`", sentence) == attentive_fusions()


def test_the_pacing_of_the_page() -> None:
    text = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0]
    section = CurriculumConfig.model_validate(yaml.safe_load(text)["curriculum"])
    assert isinstance(section.pacing.difficulty, DataMapConfig)  # type: ignore[union-attr]
