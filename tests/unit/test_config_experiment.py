"""The experiment: complaints name place, key and the nearest valid name; sections that do not fit together are refused."""

import pytest

from mmtrain.config import dump_yaml, load_experiment
from mmtrain.engine.clipping.norm import NormClippingConfig
from mmtrain.errors import ConfigError
from mmtrain.loop_settings import loop_settings

VALID = """\
name: x
datasets:
  clips: {store: stores/clips}
streams:
  clips:
    dataset: clips
    tasks: [funny]
model:
  sequences:
    audio: {name: linear}
  fusion: {name: hca}
curriculum:
  window: 20
  sampler:
    name: dynamic_difficulty
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(*overrides, text=VALID):
        (tmp_path / "c.yaml").write_text(text, encoding="utf-8")
        return load_experiment("c.yaml", list(overrides))

    return load


@pytest.fixture
def complaint(load):
    def complaint(*overrides, text=VALID):
        with pytest.raises(ConfigError) as error:
            load(*overrides, text=text)
        return str(error.value)

    return complaint


def test_augmentations_of_a_modality_of_pixels_are_those_of_images(load):
    read = "model.images={image: {name: cnn}}"
    assert load(read, "augmentation.image.a.name=color_jitter").augmentation["image"]["a"].hue == 0
    for name in ("time_masking", "gaussian_noise"):
        wrong = rf"{name} is for features; for 'image' write one of horizontal_flip, rotation, resized_crop"
        with pytest.raises(ConfigError, match=wrong):
            load(read, f"augmentation.image.a.name={name}")


def test_valid(load):
    experiment = load("training.optimizer.lr=1e-4", "training.clipping.name=none", "model.sequences.video.name=bilstm")
    assert experiment.training.optimizer.lr == 1e-4
    assert experiment.training.clipping.name == "none"
    assert load("training.clipping.max_norm=0.5").training.clipping == NormClippingConfig(max_norm=0.5)
    assert load().training.clipping == NormClippingConfig(max_norm=1.0)
    assert experiment.model.modalities == ("audio", "video")
    assert experiment.task("funny").head.name == "linear"


# what is overridden, what the command line is told
WRONG = {
    "zzz=3": "zzz: unknown key. Known: augmentation, batch,",
    "traning.epochs=3": "traning: unknown key; did you mean 'training'? Known: augmentation, batch,",
    "epochs=3": "epochs: unknown key; did you mean training.epochs? Known here: augmentation,",
    "lr=3": "lr: unknown key; did you mean training.optimizer.lr? Known here: augmentation,",
    "batch.sise=3": "batch.sise: unknown key; did you mean 'size'? Known: evaluation, micro, on_bad_sample, prefetch, size",
    "batch.on_bad_sample=drop": "batch.on_bad_sample: input should be 'stop' or 'skip' (found 'drop')",
    "training.clip_norm=1": "training.clip_norm: unknown key. Known: average, checkpoint_every, clipping,",
    "training.clipping.name=values": "training.clipping.name: unknown name 'values'; did you mean 'value'? Known: none,",
    "training.clipping.max_value=1": "training.clipping.max_value: unknown key. Known: max_norm, name",
    "training.clipping.max_norm=0": "training.clipping.max_norm: input should be greater than 0 (found 0)",
    "training.clipping={name: value, max_value: .inf}": "training.clipping.max_value: input should be a finite number",
    "training.on_nonfinite=back": "training.on_nonfinite: input should be 'stop', 'skip' or 'rollback' (found 'back')",
    "training.detect_anomaly=3": "training.detect_anomaly: input should be a valid boolean",
    "streams.clips.task=[a]": "streams.clips.task: unknown key; did you mean 'tasks'? Known: dataset, modalities, tasks",
    "model.sequences.audio.hidden=2": "model.sequences.audio.hidden: unknown key. Known: name",
    "model.fusion.head=2": "model.fusion.head: unknown key; did you mean 'heads'? Known: attention_dropout, dropout,",
    "tasks.funny.loss={name: binary, smoothing: 1}": "tasks.funny.loss.smoothing: unknown key",
    "tasks.loss.hed=1": "tasks.loss.hed: unknown key; did you mean 'head'? Known: head, loss",
    "curriculum.sampler.temprature=2": "curriculum.sampler.temprature: unknown key; did you mean 'temperature'?",
    "curriculum.sampler.name=dynamic": "curriculum.sampler.name: unknown name 'dynamic'",
    "tasks.funny.head.name=mlpp": "tasks.funny.head.name: unknown name 'mlpp'; did you mean 'mlp'? Known: linear, mlp",
    "tasks.funny.loss.name=binry": "tasks.funny.loss.name: unknown name 'binry'; did you mean 'binary'?",
    "model.sequences.audio.name=lstm": "model.sequences.audio.name: unknown name 'lstm'; did you mean 'bilstm'?",
    "regularizers.a.name=l3": "regularizers.a.name: unknown name 'l3'. Known: l2, l2_initial, r_drop",
    "curriculum.weighting.name=nothing": "curriculum.weighting.name: ",
    "tasks.funny.loss.pos_weight=2": "tasks.funny.loss: needs a `name:` that says which component it is. Known: binary,",
    "streams.new.dataset=clips": "streams.new.tasks: is required and missing",
    "regularizers.a.name=l2": "regularizers.a.strength: is required and missing",
    "model.text.max_tokens=9": "model.text.path: is required and missing",
    "batch.size=0": "batch.size: input should be greater than or equal to 1 (found 0)",
    "batch.size=many": "batch.size: input should be a valid integer, unable to parse string as an integer (found 'many')",
    "batch.size=1.5": "batch.size: input should be a valid integer, got a number with a fractional part (found 1.5)",
    "batch.size=true": "batch.size: should be a number (found true, which YAML also reads from yes, no, on, off)",
    "model.fusion={name: concat, hidden: [on, 2]}": "model.fusion.hidden.0: should be a number (found true",
    "training.optimizer.betas=[0.9, 2]": "training.optimizer.betas.1: input should be less than 1 (found 2)",
    "training.optimizer.lr=0": "training.optimizer.lr: input should be greater than 0 (found 0)",
    "training.optimizer.lr=.nan": "training.optimizer.lr: input should be a finite number (found nan)",
    "training.optimizer.lr=1e999": "training.optimizer.lr: input should be a finite number (found inf)",
    "training.precision=no": "training.precision: input should be 'fp32', 'bf16' or 'fp16' (found False)",
    "training.schedule.warmup=1.5": "training.schedule.warmup: 1.5 is neither a share below 1 nor a whole number of steps",
    "training.optimizer.name=adm": "training.optimizer.name: unknown name 'adm'; did you mean 'adam'? Known: adafactor,",
    "training.optimizer={name: sgd, eps: 1}": "training.optimizer.eps: unknown key",
    "training.optimizer={name: sgd, momentum: 0, nesterov: true}": "training.optimizer.nesterov: needs a momentum above 0",
    "training.optimizer=adam": "training.optimizer: is a section: keys and values below it (found 'adam')",
    "training.schedule.decay=cosine": "training.schedule.decay: unknown key",
    "training.schedule={name: multi_step, milestones: [2, 1]}": "training.schedule.milestones: 1 stands behind 2; write",
    "training.optimizer.name=schedule_free_adamw": (
        "training.optimizer: schedule_free_adamw averages in place of a falling rate; training.schedule is 'linear', write"
    ),
    "training.unfreeze={stages: [{at: 1, layers: 0}]}": "training.unfreeze.stages: the first begins at 1; write a stage for",
    "training.unfreeze={stages: [{at: 0, layers: 0}, {at: 0, layers: 1}]}": (
        "training.unfreeze.stages: 0 stands behind 0; write them in rising order"
    ),
    "training={average: {name: ema}, optimizer: {name: schedule_free_adamw}}": (
        "training.average: schedule_free_adamw evaluates and saves an average of its own; write null"
    ),
    "training.average={name: swa, start: 2.5}": "training.average.start: 2.5 is neither a share below 1 nor a whole number",
    "training.unfreeze={stages: []}": "training.unfreeze.stages: there is none; write a stage for the run's start, at: 0",
    "training.unfreeze={stages: [{at: 0}]}": "training.unfreeze.stages.0.layers: is required and missing",
    "training.unfreeze={stages: [{at: 0, layers: 1}]}": "training.unfreeze: the model reads no text; write null",
    "training={unfreeze: {stages: [{at: 0, layers: 1}]}, optimizer: {name: schedule_free_adamw}}": (
        "training.unfreeze: schedule_free_adamw counts the steps of whole groups; write another optimizer"
    ),
    "tasks.funny.loss={name: binary, pos_weight: -1}": (
        "tasks.funny.loss.pos_weight: input should be greater than 0, or: input should be 'auto' (found -1)"
    ),
    "batch=5": "batch: is a section: keys and values below it (found 5)",
    "model=null": "model: is a section: keys and values below it (found None)",
    "streams=[a]": "streams: is a section: keys and values below it (found ['a'])",
    "streams.clips.tasks=funny": "streams.clips.tasks: is a list, such as [a, b] (found 'funny')",
    "streams.clips.tasks.0=mood": "streams.clips.tasks: is a list, such as [a, b] (found {'0': 'mood'})",
    "runs=''": "runs: string should have at least 1 character (found '')",
    "streams.clips.modalities=[]": "streams.clips.modalities: tuple should have at least 1 item after validation, not 0",
    f"name={'n' * 201}": "name: string should have at most 200 characters (found 'nnn",
    "name=../x": "name: letters, digits, '.', '_' and '-' make a name, and it begins with a letter or digit (found '../x')",
    "streams={a b: {dataset: clips, tasks: [sad]}}": "streams.a b: letters, digits, '.', '_' and '-' make a name",
    "model.fusion.order=[audio, video]": "model.fusion.order: fusion.order [audio, video] names 'video', which the model",
    "streams.clips.dataset=clip": "streams.clips.dataset: no dataset 'clip'; did you mean 'clips'? Known: clips",
    "streams.clips.modalities=[adio]": "streams.clips.modalities: the model reads no 'adio'; did you mean 'audio'?",
    "streams.clips.tasks=[funny, funny]": "streams.clips.tasks: 'funny' stands here twice",
    "streams.more={dataset: clips, tasks: [funny]}": (
        "streams.more.tasks: 'funny' of dataset 'clips' is in the stream 'clips' already"
    ),
    "tasks.funy.head.name=mlp": "tasks.funy: no stream has this task; did you mean 'funny'? Known: funny",
    "selection.metric=val/funy/f1": (
        "selection.metric: no metric 'val/funy/f1', since no stream has the task 'funy'; did you mean 'funny'? Known: funny"
    ),
    "selection.metric=val/funny@clip/f1": (
        "selection.metric: no metric 'val/funny@clip/f1', since 'funny' is of other streams; did you mean 'clips'?"
    ),
    "selection.metric=f1": "selection.metric: no metric 'f1'; write val/loss, or val/<task>/<metric> of one of funny",
    "selection.metric=val/f1": "selection.metric: no metric 'val/f1'; write val/loss, or val/<task>/<metric> of one",
    "selection.metric=val/funny@/f1": "selection.metric: no metric 'val/funny@/f1', since 'funny' is of other streams.",
    "selection.metric=test/funny/f1": "selection.metric: no metric 'test/funny/f1'; write val/loss, or val/<task>/<metric>",
    "training.schedule={name: reduce_on_plateau, metric: val/sad/loss}": (
        "training.schedule.metric: no metric 'val/sad/loss', since no stream has the task 'sad'. Known: funny"
    ),
    "curriculum.sampler={name: validation_driven, targets: {clips: {metric: val/sad/loss, target: 1}}}": (
        "curriculum.sampler.targets.clips.metric: no metric 'val/sad/loss', since no stream has the task 'sad'. Known: funny"
    ),
    "curriculum.sampler={name: fixed, shares: {clip: 1}}": (
        "curriculum.sampler: sampler fixed: shares: unknown stream 'clip'; did you mean 'clips'? The stage has clips"
    ),
    "curriculum.sampler={name: scheduled, points: [{at: 0, shares: {clip: 1}}]}": (
        "curriculum.sampler: sampler scheduled: points.0.shares: unknown stream 'clip'; did you mean 'clips'?"
    ),
    "curriculum.sampler={name: validation_driven, targets: {clip: {metric: val/loss, target: 1}}}": (
        "curriculum.sampler: sampler validation_driven: targets: unknown stream 'clip'; did you mean 'clips'?"
    ),
    "curriculum.sampler={name: doremi, reference_losses: {clip: {funny: 1}}}": (
        "curriculum.sampler: sampler doremi: reference_losses: unknown stream 'clip'; did you mean 'clips'?"
    ),
    "curriculum.sampler={name: doremi, reference_losses: {clips: {funy: 1}}}": (
        "curriculum.sampler: sampler doremi: reference_losses.clips: unknown task 'funy'; did you mean 'funny'?"
    ),
    "curriculum.schedule={name: one_at_a_time, order: [funy]}": (
        "curriculum.schedule: schedule one_at_a_time: order: unknown task 'funy'; did you mean 'funny'? The stage has funny"
    ),
    "curriculum.schedule={name: staged, phases: [{tasks: [funy]}]}": (
        "curriculum.schedule: schedule staged: phases.0: unknown task 'funy'; did you mean 'funny'? The stage has funny"
    ),
    "curriculum.weighting={name: fixed, weights: {funy: 2}}": (
        "curriculum.weighting: weighting fixed: unknown task 'funy'; did you mean 'funny'? The stage has funny"
    ),
    "augmentation.adio.a.name=time_jitter": "augmentation.adio: the model reads no 'adio'; did you mean 'audio'? Known:",
    "augmentation.text.a.name=word_dropout": "augmentation.text: the model reads no 'text'. Known: audio",
    "augmentation.audio.a.name=word_dropout": (
        "augmentation.audio.a: word_dropout is for text; for 'audio' write one of time_masking, feature_masking,"
    ),
    "augmentation.audio.a.name=rotation": (
        "augmentation.audio.a: rotation is for images; for 'audio' write one of time_masking, feature_masking,"
    ),
    "augmentation.audio.a.name=time_maskin": (
        "augmentation.audio.a.name: unknown name 'time_maskin'; did you mean 'time_masking'? Known: color_jitter,"
    ),
    "augmentation.audio.a.spans=2": "augmentation.audio.a: needs a `name:` that says which component it is. Known:",
    "augmentation.audio={name: time_masking}": (
        "augmentation.audio: each row stands under a name that you choose: audio: {first: {name: time_masking}}"
    ),
    "augmentation.audio.a={name: time_masking, spns: 2}": "augmentation.audio.a.spns: unknown key; did you mean 'spans'?",
    "training.eval_every=30": (
        "training.eval_every: 30 is not a multiple of curriculum.window (20): evaluations fall on window borders; write 20"
    ),
    "regularizers={a: {name: r_drop, strength: 1}, b: {name: r_drop, strength: 2}}": (
        "regularizers.b: r_drop stands under 'a' already; its strength is one number"
    ),
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_override_is_told_by_its_key(complaint, override):
    found = complaint(override)
    assert found.startswith(f"command line: {WRONG[override]}")
    assert "\n" not in found


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ("name: x", "nmae: x", "c.yaml: name: is required and missing\nc.yaml:1: nmae: unknown key; did you mean 'name'?"),
        ("    dataset: clips", "    dataset: clop", "c.yaml:6: streams.clips.dataset: no dataset 'clop'"),
        ("    dataset: clips\n", "", "c.yaml:5: streams.clips.dataset: is required and missing"),
        ("    tasks: [funny]", "    tasks: []", "c.yaml:7: streams.clips.tasks: tuple should have at least 1 item"),
        ("{name: hca}", "{name: hca, order: [video]}", "c.yaml:11: model.fusion.order: fusion.order [video] names 'video'"),
        (
            "  window: 20",
            "  window: 0",
            "c.yaml:13: curriculum.window: input should be greater than or equal to 1 (found 0)",
        ),
        (
            "dynamic_difficulty",
            "dynamic_dificulty",
            "c.yaml:15: curriculum.sampler.name: unknown name 'dynamic_dificulty'; did",
        ),
        (
            "  sequences:\n    audio: {name: linear}\n",
            "  dim: 8\n",
            "c.yaml:8: model: the model reads nothing: give `text` an",
        ),
        (
            "name: x",
            "name: x\nbatch.size: 3",
            "c.yaml:2: batch.size: unknown key; in a file keys nest: write `batch:` and below it",
        ),
    ],
)
def test_a_wrong_line_is_told_by_its_number(complaint, line, instead, message):
    assert line in VALID
    assert complaint(text=VALID.replace(line, instead, 1)).startswith(message)


def test_an_error_in_a_base_names_the_base(complaint, tmp_path):
    (tmp_path / "base.yaml").write_text(VALID.replace("  window: 20", "  windw: 20"))
    assert complaint(text="base: base.yaml\nseed: 3").startswith("base.yaml:13: curriculum.windw: unknown key")


def test_every_complaint_has_a_line_of_its_own(complaint):
    found = complaint("batch.size=0", "batch.evalation=3", "seed=-1", "curriculum.sampler.name=x")
    assert [line.split(":")[1].strip() for line in found.splitlines()] == [
        "seed",
        "curriculum.sampler.name",
        "batch.size",
        "batch.evalation",
    ]


def test_every_misfit_has_a_line_of_its_own(complaint):
    found = complaint("streams.clips.dataset=none", "tasks.sad.head.name=mlp", "training.eval_every=7")
    assert [line.split(":")[1].strip() for line in found.splitlines()] == [
        "streams.clips.dataset",
        "tasks.sad",
        "training.eval_every",
    ]


def test_a_name_with_dots_keeps_its_line(complaint):
    text = VALID.replace("  clips:\n    dataset: clips", "  clips.v1:\n    dataset: none")
    assert complaint(text=text).startswith("c.yaml:6: streams.clips.v1.dataset: no dataset 'none'")


def test_evaluations_fall_on_window_borders(load, complaint):
    assert load("training.eval_every=40").training.eval_every == 40
    assert load("training.eval_every=30", "curriculum.window=15").curriculum.window == 15
    assert "write 40, or another window" in complaint("training.eval_every=59")


def test_an_optimizer_without_name_is_adamw_and_a_schedule_linear(load):
    training = load("training.optimizer.text_lr=1e-4", "training.schedule.end=0.5").training
    assert (training.optimizer.name, training.optimizer.text_lr) == ("adamw", 1e-4)
    assert (training.schedule.name, training.schedule.end) == ("linear", 0.5)
    training = load("training.optimizer={name: sgd, lr: 1}", "training.schedule.name=cosine").training
    assert (training.optimizer.name, training.optimizer.lr, training.schedule.name) == ("sgd", 1, "cosine")
    free = load("training.optimizer.name=schedule_free_adamw", "training.schedule.name=constant").training
    assert (free.optimizer.name, free.schedule.name) == ("schedule_free_adamw", "constant")


def test_two_ways_to_freeze_exclude_each_other(complaint):
    text = "model.text={name: transformers, path: a/b, trainable_layers: 2}"
    found = complaint(text, "training.unfreeze={stages: [{at: 0, layers: 1}]}")
    assert found.endswith("training.unfreeze: model.text.trainable_layers is 2; write null for one of them")


def test_one_dataset_may_be_seen_by_two_streams_through_different_tasks(load):
    experiment = load("streams.more={dataset: clips, tasks: [sad]}", "tasks.sad.head.name=mlp")
    assert experiment.task_names == ("funny", "sad")


@pytest.mark.parametrize(
    "value", ["${root}", "\\${x}", "a\\\\${y}", "1e4", "yes", "2024-01-01", "'", "a: b # c", "é\u2028x"]
)
def test_a_dump_loads_to_the_same(load, tmp_path, value):
    experiment = load()
    changed = experiment.model_copy(update={"runs": value})
    (tmp_path / "again.yaml").write_text(dump_yaml(changed), encoding="utf-8")
    assert load_experiment(tmp_path / "again.yaml") == changed


def test_a_batch_smaller_than_the_processes(load):
    with pytest.raises(ConfigError, match=r"^batch\.size: 2 samples cannot be shared by 3 processes"):
        loop_settings(load("batch.size=2"), None, num_processes=3)
