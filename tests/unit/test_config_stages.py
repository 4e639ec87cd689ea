"""Files with stages: what a stage has of the shared part, what each begins with, and where a complaint says it stands."""

import pytest
import yaml

from mmtrain.config import Experiment, Staged, dump_yaml, load, load_experiment
from mmtrain.config_schema import file_schema
from mmtrain.engine.initial_config import InitialConfig
from mmtrain.errors import ConfigError

VALID = """\
name: x
datasets:
  clips: {store: stores/clips}
tasks:
  funny: {head: {name: mlp, hidden: [8]}}
  sad: {head: {name: mlp}}
model:
  sequences: {audio: {name: linear}}
regularizers:
  weight: {name: l2, strength: 1}
curriculum:
  sampler: {name: temperature, temperature: 2}
training:
  epochs: 4
  optimizer: {lr: 1e-3}
stages:
  pretrain:
    streams:
      clips: {dataset: clips, tasks: [sad]}
  finetune:
    streams:
      clips: {dataset: clips, tasks: [funny]}
    tasks:
      funny: {head: {dropout: 0.5}}
    regularizers:
      anchor: {name: l2_initial, strength: 2}
    training: {epochs: 5, optimizer: {lr: 1e-5}}
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(*overrides, text=VALID):
        (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
        return load("c.yaml", list(overrides))

    return read


@pytest.fixture
def stages(read):
    def stages(*overrides, text=VALID):
        found = read(*overrides, text=text)
        assert isinstance(found, Staged)
        return found.stages

    return stages


@pytest.fixture
def complaint(read):
    def complaint(*overrides, text=VALID):
        with pytest.raises(ConfigError) as error:
            read(*overrides, text=text)
        return str(error.value)

    return complaint


def test_a_stage_refines_what_is_shared(stages):
    pretrain, finetune = stages().values()
    assert (pretrain.name, finetune.name) == ("x/pretrain", "x/finetune")
    assert (pretrain.training.epochs, finetune.training.epochs) == (4, 5)
    assert (pretrain.training.optimizer.lr, finetune.training.optimizer.lr) == (1e-3, 1e-5)
    assert finetune.curriculum == pretrain.curriculum
    assert finetune.datasets == pretrain.datasets


def test_a_section_of_another_name_is_replaced_as_by_a_base(stages):
    _, finetune = stages("stages.finetune.curriculum.sampler.name=uniform").values()
    assert finetune.curriculum.sampler.model_dump() == {"name": "uniform"}


def test_streams_and_regularizers_of_a_stage_are_all_that_it_has(stages):
    text = VALID.replace("model:\n", "streams:\n  old: {dataset: clips, tasks: [old]}\nmodel:\n", 1)
    pretrain, finetune = stages(text=text).values()
    assert (set(pretrain.streams), set(finetune.streams)) == ({"clips"}, {"clips"})
    assert (set(pretrain.regularizers), set(finetune.regularizers)) == ({"weight"}, {"anchor"})
    assert not stages("stages.pretrain.regularizers={}")["pretrain"].regularizers


def test_shared_streams_serve_the_stages_that_name_none(stages):
    text = VALID.replace("model:\n", "streams:\n  all: {dataset: clips, tasks: [funny, sad]}\nmodel:\n", 1)
    text = text.replace("    streams:\n      clips: {dataset: clips, tasks: [sad]}\n", "    seed: 3\n")
    pretrain, finetune = stages(text=text).values()
    assert (set(pretrain.streams), set(finetune.streams)) == ({"all"}, {"clips"})


def test_tasks_are_refined_and_those_of_other_stages_left_out(stages):
    pretrain, finetune = stages().values()
    assert (set(pretrain.tasks), set(finetune.tasks)) == ({"sad"}, {"funny"})
    head = finetune.tasks["funny"].head
    assert (head.name, head.hidden, head.dropout) == ("mlp", (8,), 0.5)


def test_a_stage_begins_with_the_one_before(stages):
    pretrain, finetune = stages().values()
    assert pretrain.initial is None
    assert finetune.initial == InitialConfig(run="runs/x/pretrain", checkpoint="best", match="shapes")
    assert stages("runs=/scratch", "name=a/b")["finetune"].initial.run == "/scratch/a/b/pretrain"
    last = stages("stages.finetune.initial.checkpoint=last")["finetune"].initial
    assert last == InitialConfig(run="runs/x/pretrain", checkpoint="last", match="shapes")
    assert stages("stages.finetune.initial=null")["finetune"].initial is None
    other = stages("stages.finetune.initial={file: w.safetensors}")["finetune"].initial
    assert other == InitialConfig(file="w.safetensors", match="strict")


def test_shared_initial_weights_are_those_of_the_first_stage(stages):
    pretrain, finetune = stages("initial={run: runs/first}").values()
    assert (pretrain.initial.run, finetune.initial.run) == ("runs/first", "runs/x/pretrain")
    pretrain, finetune = stages("initial={file: w.safetensors}").values()
    assert (pretrain.initial.file, finetune.initial.file, finetune.initial.match) == ("w.safetensors", None, "shapes")


def test_overrides_of_a_stage_and_of_all(stages):
    found = stages("training.epochs=2", "stages.finetune.training.optimizer.lr=3e-3", "batch.size=5")
    assert [stage.training.epochs for stage in found.values()] == [2, 5]
    assert [stage.training.optimizer.lr for stage in found.values()] == [1e-3, 3e-3]
    assert [stage.batch.size for stage in found.values()] == [5, 5]


def test_the_order_is_that_of_the_file(stages):
    text = VALID.replace(
        "  finetune:\n", "  again:\n    seed: 4\n    streams: {c: {dataset: clips, tasks: [sad]}}\n  finetune:\n"
    )
    found = stages(text=text)
    assert list(found) == ["pretrain", "again", "finetune"]
    assert [stage.initial and stage.initial.run for stage in found.values()] == [None, "runs/x/pretrain", "runs/x/again"]


def test_a_base_may_have_stages_that_a_file_refines(stages, tmp_path):
    (tmp_path / "base.yaml").write_text(VALID)
    found = stages(text="base: base.yaml\nstages: {finetune: {training: {epochs: 9}}}")
    assert [stage.training.epochs for stage in found.values()] == [4, 9]
    assert found["finetune"].training.optimizer.lr == 1e-5


# what is overridden, what the command line is told
WRONG = {
    "stages.fine.seed=1": "stages.fine: the file has no such stage; did you mean 'finetune'? Known: finetune, pretrain",
    "stages.finetune.bach.size=2": "stages.finetune.bach: unknown key; did you mean 'batch'? Known: augmentation, batch,",
    "stages.finetune.training.epochs=0": "stages.finetune.training.epochs: input should be greater than or equal to 1",
    "stages.finetune.training.epochs=yes": "stages.finetune.training.epochs: should be a number (found true",
    "training.epochs=0": "training.epochs: input should be greater than or equal to 1 (found 0) (stage pretrain)",
    "batch.size=0": "batch.size: input should be greater than or equal to 1 (found 0)",
    "stages.finetune.tasks.fun.head.name=mlp": "stages.finetune.tasks.fun: no stream has this task; did you mean 'funny'?",
    "stages.pretrain.tasks.funny.head.name=mlp": "stages.pretrain.tasks.funny: no stream has this task. Known: sad",
    "stages.finetune.initial.checkpont=last": "stages.finetune.initial.checkpont: unknown key; did you mean 'checkpoint'?",
    "stages.finetune.name=y": "stages.finetune.name: a stage is called by its key; write `name:` outside of the stages",
    "stages.finetune.runs=y": "stages.finetune.runs: all stages lie in one folder; write `runs:` outside of the stages",
    "stages.finetune.stages.a.seed=1": "stages.finetune.stages: unknown key",
    "stages.fine tune.seed=1": "stages.fine tune: letters, digits, '.', '_' and '-' make a name",
    "stages.finetune=4": "stages.finetune: is a section: keys and values below it (found 4)",
    "stages=4": "stages: is a section: keys and values below it (found 4)",
    "stges.pretrain.seed=4": "stges: unknown key; did you mean 'stages'? Known: augmentation, batch,",
    "stage=fine": "stage: the file has no stage 'fine'; did you mean 'finetune'? Known: finetune, pretrain",
    "streams.clips.tasks=[sad]": (
        "streams.clips.tasks: changes nothing: set again by pretrain and finetune; write stages.pretrain.streams.clips."
        "tasks or stages.finetune.streams.clips.tasks"
    ),
    "stages.finetune.curriculum.window=15": "training.eval_every: 20 is not",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_override_is_told_by_its_key_in_the_file(complaint, override):
    more = ["training.eval_every=20", "curriculum.window=20"] if "window" in override else []
    assert complaint(override, *more).startswith(f"command line: {WRONG[override]}")


def test_an_override_that_the_chosen_stage_does_not_read_is_refused(complaint, stages):
    assert stages("training.epochs=7")["pretrain"].training.epochs == 7
    assert complaint("training.epochs=7", "stage=finetune") == (
        "command line: training.epochs: changes nothing: set again by finetune; write stages.finetune.training.epochs"
    )


def test_what_only_one_stage_complains_of_says_which(complaint):
    found = complaint("training.eval_every=20", "curriculum.window=20", "stages.finetune.curriculum.window=15")
    assert found.endswith("write 15, or another window (stage finetune)")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("epochs: 5,", "epoch: 5,", "c.yaml:27: stages.finetune.training.epoch: unknown key; did you mean 'epochs'?"),
        ("tasks: [sad]", "task: [sad]", "c.yaml:19: stages.pretrain.streams.clips.tasks: is required and missing"),
        (
            "clips, tasks: [funny]",
            "clop, tasks: [funny]",
            "c.yaml:22: stages.finetune.streams.clips.dataset: no dataset 'clop'",
        ),
        ("  epochs: 4", "  epoch: 4", "c.yaml:14: training.epoch: unknown key; did you mean 'epochs'?"),
        ("  funny: {head: {name", "  fun: {head: {name", "c.yaml:5: tasks.fun: no stream has this task"),
        ("name: x", "nmae: x", "c.yaml: name: is required and missing\nc.yaml:1: nmae: unknown key; did you mean 'name'?"),
    ],
)
def test_a_wrong_line_is_told_by_its_number(complaint, line, instead, message):
    assert VALID.count(line) == 1
    assert complaint(text=VALID.replace(line, instead)).startswith(message)


def test_errors_of_all_stages_are_told_together(complaint):
    found = complaint("stages.pretrain.seed=-1", "stages.finetune.batch.size=0")
    assert [line.split(":")[1].strip() for line in found.splitlines()] == [
        "stages.pretrain.seed",
        "stages.finetune.batch.size",
    ]


def test_one_experiment_is_one_stage_or_a_file_without(read):
    assert read("stage=finetune").name == "x/finetune"
    assert load_experiment("c.yaml", ["stage=pretrain"]).name == "x/pretrain"
    with pytest.raises(ConfigError) as error:
        load_experiment("c.yaml")
    assert str(error.value) == (
        "c.yaml: this file has several stages, and one experiment is asked for; add stage=pretrain or stage=finetune"
    )
    plain = read("stages=null", "streams={clips: {dataset: clips, tasks: [funny, sad]}}")
    assert isinstance(plain, Experiment)
    assert plain.name == "x"


def test_what_is_shown_loads_to_the_same(read, tmp_path):
    found = read("runs=there", "initial={run: runs/first}")
    shown = dump_yaml(found)
    assert list(yaml.safe_load(shown)) == ["name", "runs", "stages"]
    (tmp_path / "shown.yaml").write_text(shown)
    again = load("shown.yaml")
    assert again == found
    assert again.folder.as_posix() == "there/x"


def test_the_schema_has_stages_of_the_same_keys():
    schema = file_schema()
    stages, none = schema["properties"]["stages"]["anyOf"]
    (stage,) = stages["patternProperties"].values()
    assert none == {"type": "null"}
    assert set(schema["properties"]) - set(stage["properties"]) == {"name", "runs", "base", "stages", "stage"}
    assert stage["additionalProperties"] is False


def test_a_pretext_task_of_the_shared_part_belongs_to_the_stages_whose_streams_list_it(stages):
    text = (
        VALID.replace("tasks: [sad]", "tasks: [align]")
        .replace("  sad: {head: {name: mlp}}\n", "")
        .replace("audio: {name: linear}", "audio: {name: linear}, video: {name: linear}")
    )
    text += "pretext:\n  align: {name: info_nce}\n"
    found = stages(text=text)
    assert list(found["pretrain"].pretext) == ["align"]
    assert list(found["pretrain"].tasks) == []
    assert list(found["finetune"].pretext) == []


def test_a_stage_takes_out_what_the_stages_share(stages, tmp_path):
    text = VALID.replace("    tasks:\n      funny: {head: {dropout: 0.5}}", "    tasks: {funny: null}")
    assert stages(text=text)["finetune"].tasks == {}
    assert stages("stages.finetune.tasks.funny=null")["finetune"].tasks == {}, "not its own settings alone"
    assert stages("tasks.sad=null")["pretrain"].tasks == {}
    (tmp_path / "base.yaml").write_text(VALID)
    refined = "base: base.yaml\nstages: {finetune: {tasks: {funny: null}}}"
    assert stages(text=refined)["finetune"].tasks == {}


def test_null_over_what_is_not_there_is_refused(stages):
    with pytest.raises(ConfigError, match=r"tasks\.merry: null takes an entry out, and there is none of this name"):
        stages("tasks.merry=null")
    with pytest.raises(ConfigError, match=r"stages\.finetune\.tasks\.merry: null takes an entry out, and there is none"):
        stages("stages.finetune.tasks.merry=null")
