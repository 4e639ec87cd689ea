"""README says what is there: every component by name, an experiment that loads, commands that exist."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter

from data_prep.synth import synthesize
from mmtrain.config import load, load_experiment
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.pacing import PACINGS
from mmtrain.curriculum.pacing.difficulty import DIFFICULTIES, DifficultyConfig
from mmtrain.curriculum.samplers import SAMPLERS
from mmtrain.curriculum.schedules import SCHEDULES
from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.data.augment import AUGMENTATIONS, AugmentationConfig
from mmtrain.engine.averages import AVERAGES
from mmtrain.engine.clipping import CLIPPINGS
from mmtrain.engine.optimizers import OPTIMIZERS
from mmtrain.engine.schedules import LR_SCHEDULES
from mmtrain.evaluation.conventions import CONVENTIONS
from mmtrain.models.encoders import IMAGE_ENCODERS, SEQUENCE_ENCODERS, TEXT_ENCODERS, ImageEncoderConfig
from mmtrain.models.fusion import FUSIONS
from mmtrain.models.heads import HEADS
from mmtrain.models.pooling import POOLINGS
from mmtrain.objectives.losses import LOSSES
from mmtrain.objectives.pretext import PRETEXTS
from mmtrain.objectives.regularizers import REGULARIZERS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = {
    "model.text": TEXT_ENCODERS,
    "model.sequences.<modality>": SEQUENCE_ENCODERS,
    "model.images.<modality>": IMAGE_ENCODERS,
    "model.fusion": FUSIONS,
    "model.pooling": POOLINGS,
    "tasks.<task>.head": HEADS,
    "tasks.<task>.loss": [config for config, _ in LOSSES],
    "tasks.<task>.metrics": CONVENTIONS.values(),
    "augmentation.<modality>": AUGMENTATIONS,
    "pretext.<task>": PRETEXTS,
    "regularizers.<name>": REGULARIZERS,
    "curriculum.sampler": SAMPLERS,
    "curriculum.schedule": SCHEDULES,
    "curriculum.pacing": PACINGS,
    "curriculum.pacing.difficulty": DIFFICULTIES,
    "curriculum.weighting": WEIGHTINGS,
    "training.optimizer": OPTIMIZERS,
    "training.schedule": LR_SCHEDULES,
    "training.average": AVERAGES,
    "training.clipping": CLIPPINGS,
}


def block(language: str, containing: str) -> str:
    """The one code block of a language that holds a text."""
    found = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.S) if containing in text]
    assert len(found) == 1, f"{len(found)} {language} blocks hold {containing!r}"
    return found[0]


@pytest.mark.parametrize("key", ROWS)
def test_the_table_of_choices_names_every_component_and_no_other(key):
    line = next(line for line in README.splitlines() if line.startswith(f"| `{key}` |"))
    cell = re.sub(r"\([^()]*\)", "", line.split("|")[2])  # what stands in brackets explains
    assert re.findall(r"`([^`]+)`", cell) == [config.model_fields["name"].default for config in ROWS[key]]


def test_the_experiment_of_the_page_trains_and_is_scored(tmp_path, monkeypatch, tiny_bert):
    from mmtrain.cli import main

    monkeypatch.chdir(tmp_path)
    synthesize(
        "stores/clips",
        samples=160,
        modalities={"audio": 8, "video": 6},
        tasks={"funny": "binary", "mood": "regression"},
        groups=40,
        seed=3,
    )
    Path("clips.yaml").write_text(block("yaml", "configs/clips.yaml"), encoding="utf-8")
    experiment = load_experiment("clips.yaml")
    assert experiment.model.text is not None
    assert experiment.model.text.path == "bert-base-uncased"  # a name on a hub, which no test may ask
    small = [f"model.text.path={tiny_bert}", "model.text.trainable_layers=1", "model.text.max_tokens=32", "model.dim=16"]
    small += ["model.sequences.audio.hidden=8", "training.steps_per_epoch=4", "training.epochs=1", "training.precision=fp32"]
    for arguments in (["train", "--config", "clips.yaml", *small], ["evaluate", "runs/clips", "--split", "test"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
    table = Path("runs/clips/evaluation/test.md").read_text(encoding="utf-8")
    assert "| funny" in table
    assert "| mood" in table
    tree = README.split("### What a run leaves", 1)[1].split("##", 1)[0]
    for name in ("config.yaml", "environment.json", "metrics.jsonl", "curriculum.jsonl", "timing.jsonl"):
        assert name in tree
        assert (Path("runs/clips") / name).is_file()


def test_the_stages_of_the_page_are_two_experiments(tmp_path):
    (tmp_path / "clips.yaml").write_text(block("yaml", "configs/clips.yaml"), encoding="utf-8")
    (tmp_path / "stages.yaml").write_text(block("yaml", "configs/clips-stages.yaml"), encoding="utf-8")
    mood, funny = load(tmp_path / "stages.yaml").stages.values()
    assert (mood.task_names, funny.task_names) == (("mood",), ("funny",))
    assert (set(mood.tasks), set(funny.tasks)) == (set(), {"funny"})
    assert funny.initial.run == str(mood.folder) == "runs/clips-stages/mood"


def test_the_pacing_of_the_page_is_one_and_so_is_each_difficulty_it_shows():
    text = block("yaml", "pacing:")
    section = CurriculumConfig.model_validate(yaml.safe_load(text)["curriculum"])
    shown = [yaml.safe_load(line.partition("# ")[2].partition("    ")[0]) for line in text.splitlines() if "# diff" in line]
    found = [TypeAdapter(DifficultyConfig).validate_python(entry["difficulty"]) for entry in shown]
    assert {type(section.pacing.difficulty), *map(type, found)} == set(DIFFICULTIES)


def test_the_augmentation_of_the_page_is_one():
    text = block("yaml", "augmentation:")
    pixels = [line.partition("# ")[2].strip() for line in text.splitlines() if line.startswith("  #   ")]
    assert [TypeAdapter(AugmentationConfig).validate_python(*yaml.safe_load(line).values()).reads for line in pixels] == [
        "images"
    ] * 3
    experiment = load_experiment(ROOT / "configs" / "demo.yaml", [f"augmentation={yaml.safe_load(text)['augmentation']}"])
    assert {name: list(rows) for name, rows in experiment.augmentation.items()} == {
        "text": ["words"],
        "audio": ["masking", "noise"],
    }


def test_the_image_encoders_of_the_page_are_some():
    lines = [line.strip().removeprefix("# ") for line in block("yaml", "  images:").splitlines() if "{" in line]
    found = [TypeAdapter(ImageEncoderConfig).validate_python(yaml.safe_load(line)["image"]) for line in lines]
    assert set(map(type, found)) == set(IMAGE_ENCODERS)


def test_the_matrix_of_the_page_is_a_plan(tmp_path):
    from mmtrain.ablation.plan import read_plan

    (tmp_path / "ablations").mkdir()
    (tmp_path / "clips.yaml").write_text(block("yaml", "configs/clips.yaml"), encoding="utf-8")
    file = tmp_path / "ablations" / "mine.yaml"
    file.write_text(block("yaml", "configs/ablations/mine.yaml"), encoding="utf-8")
    plan = read_plan(file)
    assert [variant.name for variant in plan.variants] == ["concat-with", "concat-without", "hca-with", "hca-without"]
    assert len(plan.runs) == 12
    line = " ".join(README.partition("Shipped in `configs/ablations`:")[2].partition("\n\n")[0].split())
    shipped = {path.stem for path in (ROOT / "configs" / "ablations").glob("*.yaml")}
    assert set(re.findall(r"`([^`]+)`", line.partition(".")[0])) == shipped
    variants = read_plan(ROOT / "configs" / "ablations" / "fusions.yaml").variants
    assert f"`fusions` has {len(variants)} variants with three seeds" in line


def test_the_store_writing_example_runs(tmp_path, monkeypatch):
    from types import SimpleNamespace

    import numpy as np

    from mmtrain.data.check import check_store

    monkeypatch.chdir(tmp_path)
    clips = [
        SimpleNamespace(id=f"c{n}", split="train", film=f"f{n}", text="hello", rows=np.ones((n + 1, 35)), funny=n % 2)
        for n in range(3)
    ]
    exec(block("python", "StoreWriter"), {"clips": clips})  # noqa: S102 - our own page
    assert check_store(Path("stores/mine")) == []


def test_the_demo_config_loads_and_the_makefile_runs_what_the_page_shows():
    experiment = load_experiment(ROOT / "configs" / "demo.yaml")
    assert set(experiment.task_names) == {"speaker", "question", "exclamation", "sentiment"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(RUN)", "python -m").replace("$(BIN)/", "")
    for line in block("sh", "--config configs/demo.yaml").splitlines():
        assert line in makefile, line


def test_no_place_is_left_to_be_filled() -> None:
    assert not re.search(r"\b(TABLE|COMMIT|TODO|TBD)\b", README)
