"""docs/hiccap.md says what is so: its numbers are the benchmark's, its files exist, its example runs."""

import re
from pathlib import Path

import pytest

from benchmarks.hiccap_quirks import PAPERS, ROWS, measure

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "hiccap.md").read_text(encoding="utf-8")
TABLES = [
    [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.M)
]


def test_the_numbers_are_those_of_the_command() -> None:
    shown = {name: (float(joint), float(logit)) for name, joint, logit in TABLES[1]}
    found = dict(measure())
    assert list(shown) == list(found) == list(ROWS)
    for name, row in found.items():
        assert shown[name] == (pytest.approx(row.joint, rel=0.02, abs=1e-3), pytest.approx(row.logit, rel=0.02, abs=1e-3))


def test_every_fault_is_described_and_measured() -> None:
    described = [row[0] for row in TABLES[0]]
    assert described == [name for name in ROWS if not name.startswith("all of")]
    assert set(described) > PAPERS


def test_configs_and_tests_of_the_page_exist() -> None:
    for path in re.findall(r"(?:configs|tests)/[\w/]+\.\w+", PAGE):
        assert (ROOT / path).is_file(), path
    assert "docs/hiccap.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_runs(tmp_path, monkeypatch) -> None:
    import numpy as np
    import torch
    import transformers
    from safetensors.torch import save_file

    from mmtrain.models.hiccap_legacy import VARIANTS, HiccapLegacy

    config = transformers.BertConfig(num_hidden_layers=1, intermediate_size=4, vocab_size=50)
    bert = transformers.BertModel(config, add_pooling_layer=False)
    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", lambda *_, **__: bert)
    monkeypatch.chdir(tmp_path)
    model = HiccapLegacy(bert=bert, tasks=["binary"], variant=VARIANTS["binary"])
    save_file({name: value.clone() for name, value in model.state_dict().items()}, "legacy.safetensors")
    clips = {"token_ids": [[1, 2, 3]], "i3d_rows": [np.ones((3, 1024))], "vggish_rows": [None]}
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    with torch.no_grad():
        exec(example, clips)  # noqa: S102 - our own page
    assert 0 < float(clips["probability"][0]) < 1
