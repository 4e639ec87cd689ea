"""What a person or a file can do wrong, through the command line: one message, exit code 2, no traceback, nothing lost."""

import json
import shutil
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from data_prep.stats import measure_store
from mmtrain.cli import main
from mmtrain.compatibility import check_origins, open_stores
from mmtrain.config import load_experiment
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter

FAST = ("training.epochs=1", "training.steps_per_epoch=2", "training.eval_every=null", "training.checkpoint_every=null")


@pytest.fixture
def complaint(capsys):
    """Runs a command that must fail, and gives its message."""

    def complaint(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, error = capsys.readouterr()
        assert ended.value.code == 2, out + error
        assert "Traceback" not in out + error
        assert error.startswith("error: ")
        return error.removeprefix("error: ").rstrip("\n")

    return complaint


@pytest.fixture
def own_clips(run_stores, tmp_path):
    """A copy of the store `clips` to damage."""
    return shutil.copytree(run_stores / "clips", tmp_path / "clips")


@pytest.fixture
def without_text(write_experiment):
    """An experiment file without the text encoder, which takes a second to load."""

    def write(**changes):
        file = write_experiment()
        values = yaml.safe_load(file.read_text())
        values["model"]["text"] = None
        for key, value in changes.items():
            values[key] = value
        file.write_text(yaml.safe_dump(values))
        return file

    return write


PICTURES = (("clips", 8), ("calls", 12))  # stores, height of their pictures


def small_store(path, *, dim=6, kind="binary", classes=(), name="small", tasks=("funny",), splits=("train", "val")):
    random = np.random.default_rng(0)
    schemas = {task: TaskSchema(kind=kind, classes=classes) for task in tasks}
    with StoreWriter(path, name=name, modalities={"audio": FeatureSpec(dim=dim)}, tasks=schemas) as writer:
        for number in range(12):
            writer.add(
                id=f"c{number}",
                split=splits[number % len(splits)],
                group=f"g{number}",
                text="a fish",
                features={"audio": random.normal(size=(2, dim))},
                labels=dict.fromkeys(tasks, number % 2),
            )
    return path


def poke(store, modality, sample, value):
    """Overwrite the first number of a sample's rows in the file that is mapped."""
    opened = FeatureStore(store)
    index = next(index for index in range(len(opened)) if opened.sample_id(index) == sample)
    first_row = int(opened.lengths(modality)[:index].sum())
    dim = opened.schema.modalities[modality].dim
    file = store / opened.schema.modalities[modality].shards[0].file
    data = bytearray(file.read_bytes())
    header_length = int.from_bytes(data[:8], "little")
    begin = json.loads(data[8 : 8 + header_length])["values"]["data_offsets"][0]
    struct.pack_into("<f", data, 8 + header_length + begin + first_row * dim * 4, value)
    file.write_bytes(data)


def test_an_unknown_key(complaint, write_experiment, tmp_path):
    file = write_experiment(batch={"sise": 4})
    message = complaint("train", "--config", file)
    assert message.startswith(f"{file}:")
    assert "batch.sise: unknown key; did you mean 'size'?" in message
    assert not (tmp_path / "runs").exists()


def test_a_file_that_is_not_there(complaint, tmp_path):
    assert complaint("train", "-c", tmp_path / "no.yaml") == f"config file {tmp_path}/no.yaml does not exist"


def test_a_task_that_the_store_lacks(complaint, without_text, tmp_path):
    message = complaint("train", "-c", without_text(), "streams.clips.tasks=[funny, mood, pitch]")
    assert "store 'clips' (" in message
    assert message.endswith("has no task 'pitch'. Known: funny, mood")
    message = complaint("train", "-c", without_text(), "streams.clips.tasks=[funy, mood]")
    assert message.startswith("streams.clips.tasks: store 'clips' (")
    assert message.endswith("has no task 'funy'; did you mean 'funny'? Known: funny, mood")
    assert not (tmp_path / "runs").exists()


def test_a_modality_that_the_store_lacks(complaint, without_text):
    message = complaint("train", "-c", without_text(), "streams.calls.modalities=[audio, video]")
    assert message == "streams.calls.modalities: store 'calls' has no 'video'. Known: audio, text"


def test_a_modality_that_no_store_has(complaint, without_text):
    message = complaint("train", "-c", without_text(), "model.sequences.face.name=linear")
    assert message == "model.sequences.face: no store has this modality (there are: audio, video)"


def test_two_stores_of_different_width(complaint, without_text, tmp_path):
    small_store(tmp_path / "wide", dim=7, name="wide")
    message = complaint(
        "train", "-c", without_text(), f"datasets.calls.store={tmp_path}/wide", "streams.calls.tasks=[funny]"
    )
    assert message == (
        "modality 'audio' is 6 wide in store 'clips' (synth) and 7 wide in 'wide': extract both with one extractor, or "
        "leave it out of the model"
    )


def voiced_store(path, *, extractor="ours", weights="", normalize=False):
    """As wide as the store of clips."""
    provenance = {"extractors": {"audio": {"weights_sha256": {"file": weights}}}} if weights else {}
    raw = path.with_name(f"{path.name}-raw")
    spec = FeatureSpec(dim=6, extractor=extractor, rows_per_second=10.0)
    tasks = {"funny": TaskSchema(kind="binary")}
    with StoreWriter(raw, name="voices", modalities={"audio": spec}, tasks=tasks, provenance=provenance) as writer:
        for number in range(8):
            split = ("train", "val")[number // 4]
            rows = {"audio": np.full((2, 6), number, np.float32)}
            writer.add(id=f"c{number}", split=split, group=f"g{number}", features=rows, labels={"funny": number % 2})
    measure_store(raw, out=path, normalize=normalize)  # provenance of what it was made from is looked at too
    return path


@pytest.mark.parametrize(
    ("first", "second", "fact", "found"),
    [
        ({}, {"extractor": "theirs"}, "extractor", ("theirs", "ours")),
        ({"weights": "a" * 64}, {"weights": "b" * 64}, "weights", ("b" * 12, "a" * 12)),
        ({}, {"normalize": True}, "scale", ("normalized by `data_prep stats`", "as extracted")),
        ({"extractor": "unknown"}, {"normalize": True}, "scale", ("normalized by `data_prep stats`", "as extracted")),
    ],
)
def test_two_stores_whose_rows_are_not_the_same_measurements(complaint, without_text, tmp_path, first, second, fact, found):
    places = [voiced_store(tmp_path / name, **options) for name, options in (("one", first), ("two", second))]
    stores = [f"datasets.{name}.store={place}" for name, place in zip(("clips", "calls"), places, strict=True)]
    reads = [f"streams.{name}.{key}" for name in ("clips", "calls") for key in ("tasks=[funny]", "modalities=[audio]")]
    message = complaint("train", "-c", without_text(tasks={}), *stores, *reads)
    assert message == (
        f"modality 'audio', {fact}: {found[1]} in dataset 'clips', {found[0]} in 'calls'; the model would take both for the "
        "same measurements. Make both stores alike, or write datasets.clips.allow_other_extractor: true where that is meant"
    )


def test_rows_of_other_extractors_where_that_is_meant_or_not_known(without_text, tmp_path):
    for name, options in (
        ("one", {}),
        ("two", {"extractor": "theirs", "normalize": True}),
        ("three", {"extractor": "unknown"}),
    ):
        voiced_store(tmp_path / name, **options)
    for name, words in (("two", ["datasets.calls.allow_other_extractor=true"]), ("three", []), ("one", [])):
        stores = [f"datasets.clips.store={tmp_path}/one", f"datasets.calls.store={tmp_path}/{name}", *words]
        reads = [
            f"streams.{stream}.{key}" for stream in ("clips", "calls") for key in ("tasks=[funny]", "modalities=[audio]")
        ]
        experiment = load_experiment(without_text(tasks={}), [*stores, *reads])
        check_origins(experiment, open_stores(experiment))


def picture_store(path, *, height, width):
    modalities = {"image": FeatureSpec.pixels(height, width, extractor="ours")}
    with StoreWriter(path, name=path.name, modalities=modalities, tasks={"funny": TaskSchema(kind="binary")}) as writer:
        for number in range(4):
            pixels = {"image": np.zeros((1, 3, height, width), np.uint8)}
            split = ("train", "val")[number // 2]
            writer.add(id=f"c{number}", split=split, group=f"g{number}", features=pixels, labels={"funny": number % 2})
    return path


def test_two_stores_with_pictures_of_different_size(complaint, without_text, tmp_path):
    """As many pixels each, in another shape."""
    stores = [f"datasets.{name}.store={picture_store(tmp_path / name, height=h, width=96 // h)}" for name, h in PICTURES]
    model = ["model.images={image: {name: cnn}}", *(f"streams.{name}.tasks=[funny]" for name, _ in PICTURES)]
    message = complaint("train", "-c", without_text(tasks={}), *stores, *model)
    assert message == (
        "modality 'image' is pixels of 3 x 8 x 12 in store 'clips' (ours) and pixels of 3 x 12 x 8 in 'calls': extract both "
        "with one extractor, or leave it out of the model"
    )


TIMED = ("model.time_positions.per_second=5", "model.fusion={name: cross_attention, relative_time: {slope: 1.0}}")


@pytest.mark.parametrize("needs", TIMED)
def test_two_stores_of_different_rate_where_times_are_read(complaint, without_text, tmp_path, needs):
    small_store(tmp_path / "slow", name="slow")
    other = (f"datasets.calls.store={tmp_path}/slow", "streams.calls.tasks=[funny]")
    message = complaint("train", "-c", without_text(), *other, needs)
    assert message == (
        "modality 'audio' has 10 rows per second in store 'clips' and no rows per second in 'slow': times need one rate. "
        "Extract both alike, or write model.time_positions: null and no relative_time"
    )


def test_two_stores_that_mean_different_things_by_a_task(complaint, without_text, tmp_path):
    small_store(tmp_path / "other", kind="multiclass", classes=("no", "yes"), name="other")
    message = complaint(
        "train", "-c", without_text(), f"datasets.calls.store={tmp_path}/other", "streams.calls.tasks=[funny]"
    )
    assert message == (
        "streams.clips: task 'funny' is binary in store 'clips' and multiclass of no, yes in 'other': one head cannot serve "
        "both. Rename the task in one of them"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_in_a_feature_row(complaint, without_text, own_clips, value):
    opened = FeatureStore(own_clips)
    train = [index for index in opened.split("train") if opened.lengths("video")[index]]
    samples = {opened.sample_id(int(index)) for index in train}
    for sample in samples:
        poke(own_clips, "video", sample, value)
    message = complaint("train", "-c", without_text(), f"datasets.clips.store={own_clips}", *FAST)
    head, _, rest = message.partition(": NaN or Inf in video. ")
    assert head.removeprefix("store 'clips', sample '").removesuffix("'") in samples
    assert rest == f"Run `mmtrain data check {own_clips}`, or leave such samples out with batch.on_bad_sample: skip"


def test_a_label_out_of_range(complaint, without_text, own_clips):
    file = own_clips / "samples.parquet"
    table = pq.read_table(file, partitioning=None)
    labels = table["mood"].to_pylist()
    labels[4] = 7
    column = pa.array(labels, table.schema.field("mood").type)
    pq.write_table(table.set_column(table.column_names.index("mood"), "mood", column), file)
    message = complaint("train", "-c", without_text(), f"datasets.clips.store={own_clips}")
    sample = table["id"][4].as_py()
    assert message == f"store 'clips', sample '{sample}', column 'mood': label 7 is not a class 0 .. 2 (multiclass)"


@pytest.mark.parametrize(("splits", "empty"), [(("val", "test"), "train"), (("train", "test"), "val")])
def test_an_empty_split(complaint, without_text, tmp_path, splits, empty):
    store = small_store(tmp_path / "small", splits=splits)
    message = complaint("train", "-c", without_text(), f"datasets.calls.store={store}", "streams.calls.tasks=[funny]")
    assert message.startswith(
        f"stream 'calls': split '{empty}' of store 'small' ({store}) has no sample with a label for funny"
    )
    assert message.endswith("(0 samples in the split)")


def test_a_store_that_is_not_there_or_is_none(complaint, without_text, tmp_path):
    file = without_text()
    expected = "is not a feature store: it has no dataset.json"
    gone = complaint("train", "-c", file, f"datasets.clips.store={tmp_path}/no")
    assert gone == f"there is no store {tmp_path}/no; `python -m data_prep` makes stores (`--help`)"
    assert complaint("train", "-c", file, f"datasets.clips.store={tmp_path}") == f"{tmp_path} {expected}"
    assert complaint("train", "-c", file, f"datasets.clips.store={file}") == f"{file} {expected}"
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/dataset.json").write_text('{"name": 5}')
    message = complaint("train", "-c", file, f"datasets.clips.store={tmp_path}/odd")
    assert message.startswith(f"{tmp_path}/odd/dataset.json: name: ")


def test_nothing_that_the_model_reads(complaint, without_text):
    overrides = ["model.fusion={name: concat}", "streams.calls.tasks=[pitch]"]
    model = {"dim": 8, "sequences": {"video": {"name": "linear"}}, "fusion": {"name": "concat"}}
    message = complaint("train", "-c", without_text(model=model), *overrides)
    assert message == "streams.calls: store 'calls' has nothing that is read of it (video)"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tasks.mood.loss.name=binary", "task 'mood'"),
        ("tasks.funny.loss.name=mse", "task 'funny'"),
        (
            "selection.metric=val/moud/accuracy",
            "selection.metric: no metric 'val/moud/accuracy', since no stream has the task 'moud'; did you mean 'mood'?",
        ),
        (
            "selection.metric=val/mood/acuracy",
            "selection.metric: no metric 'val/mood/acuracy'; did you mean 'val/mood/accuracy'?",
        ),
        ("selection.metric=accuracy", "selection.metric: no metric 'accuracy'"),
        ("curriculum.weighting={name: fixed, weights: {moud: 2}}", "did you mean 'mood'?"),
        ("model.fusion.heads=3", "heads"),
        ("curriculum.sampler.floor=0.9", "floor"),
        ("model.text={name: transformers, path: no/such/folder}", "no/such/folder"),
        ("training.precision=fp16", "training.precision: fp16 needs a GPU; on a CPU write fp32, or bf16"),
    ],
)
def test_what_does_not_fit_together(complaint, without_text, tmp_path, override, message):
    found = complaint("train", "-c", without_text(), override)
    assert message in found
    assert len(found.splitlines()) == 1
    assert not (tmp_path / "runs" / "run").exists(), "a run that never began leaves no folder behind"


def test_runs_that_cannot_be_written(complaint, without_text, tmp_path):
    (tmp_path / "file").write_text("")
    message = complaint("train", "-c", without_text(), f"runs={tmp_path}/file", *FAST)
    assert message == f"{tmp_path}/file/run: Not a directory"


def test_a_run_that_is_there_is_kept(complaint, without_text, tmp_path, capsys):
    file = without_text()
    with pytest.raises(SystemExit, match="0"):
        main(["train", "-c", str(file), *FAST])
    capsys.readouterr()
    run = tmp_path / "runs" / "run"
    before = files_of(run)
    message = complaint("train", "-c", file, *FAST)
    assert message.startswith(f"run folder {run} exists already. Continue it with --resume, replace it with --overwrite")
    message = complaint("train", "-c", file, *FAST, "--resume", "--overwrite")
    assert message == "--resume and --overwrite contradict each other; choose one"
    message = complaint("train", "-c", file, *FAST, "model.dim=16", "--resume")
    assert "model.dim" in message
    assert complaint("evaluate", run, "--split", "tets") == "--split: 'tets' is none of train, val, test"
    message = complaint("evaluate", run, "--checkpoint", "bset")
    assert message.startswith(f"{run} has no checkpoint 'bset'; it has ")
    assert "best" in message
    assert "checkpoint '../x'" in complaint("evaluate", run, "--checkpoint", "../x")
    assert files_of(run) == before


def files_of(run):
    """The content of a run's files."""
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
