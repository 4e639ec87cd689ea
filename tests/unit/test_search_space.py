"""Search files: what they say, what is drawn, and what is refused."""

import pytest

from mmtrain.errors import ConfigError
from mmtrain.tuning.search_space import overrides_of, read_space


class Recorder:
    """Answers as an optuna trial, and notes what it was asked."""

    def __init__(self):
        self.asked = []

    def suggest_int(self, key, low, high, *, step, log):
        self.asked.append(("int", key, low, high, step, log))
        return low

    def suggest_float(self, key, low, high, *, step, log):
        self.asked.append(("float", key, low, high, step, log))
        return high

    def suggest_categorical(self, key, choices):
        self.asked.append(("choice", key, choices))
        return choices[-1]


@pytest.fixture
def space_of(tmp_path):
    def read(text):
        (tmp_path / "search.yaml").write_text(text)
        return read_space(tmp_path / "search.yaml")

    return read


def test_ranges_and_choices(space_of):
    space = space_of(
        "training.optimizer.lr: {low: 1e-5, high: 1e-2, log: true}\n"
        "batch.size: {low: 8, high: 64, step: 8}\n"
        "model.dim: {low: 8, high: 64, log: true}\n"
        "training.clipping.max_norm: {low: 0.5, high: 2, step: 0.5}\n"
        "model.fusion: {choices: [{name: hca, heads: 8}, {name: concat}]}\n"
    )
    recorder = Recorder()
    values = {key: entry.suggest(recorder, key) for key, entry in space.items()}
    assert recorder.asked == [
        ("float", "training.optimizer.lr", 1e-5, 1e-2, None, True),
        ("int", "batch.size", 8, 64, 8, False),
        ("int", "model.dim", 8, 64, 1, True),
        ("float", "training.clipping.max_norm", 0.5, 2, 0.5, False),
        ("choice", "model.fusion", ['{"heads": 8, "name": "hca"}', '{"name": "concat"}']),
    ]
    assert overrides_of(values)[1:] == [
        "batch.size=8",
        "model.dim=8",
        "training.clipping.max_norm=2",
        'model.fusion={"name": "concat"}',
    ]
    assert space["model.fusion"].first == {"name": "hca", "heads": 8}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys to search; write key.path: {low: 1, high: 9}"),
        ("batch.size: 3", r"batch.size: write key.path: \{low: 1, high: 9\}"),
        ("batch.size: {low: 1, choices: [1]}", "batch.size: write key.path"),
        ("batch.size: {low: 9, high: 1}", "batch.size: low 9 is not below high 1"),
        ("batch.size: {low: 0, high: 1, log: true}", "batch.size: log needs a low above 0, and has no step"),
        ("batch.size: {low: 1, high: 9, log: true, step: 2}", "batch.size: log needs a low above 0, and has no step"),
        ("batch.size: {low: 1, high: x}", r"batch.size.high.*: Input should be a valid"),
        ("batch.size: {low: 1, high: 9, lgo: true}", "batch.size.lgo: Extra inputs"),
        ("batch.size: {choices: []}", "batch.size.choices: .* at least 1 item"),
        ("selection.metric: {choices: [a]}", "selection.metric has to be the same in all trials"),
        ("name: {choices: [a]}", "name has to be the same in all trials; set it in the experiment"),
    ],
)
def test_what_is_refused(space_of, text, message):
    with pytest.raises(ConfigError, match=f"search.yaml: {message}"):
        space_of(text)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"search file .*none.yaml does not exist"):
        read_space(tmp_path / "none.yaml")
