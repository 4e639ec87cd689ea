"""The pictures of docs/concepts are those that the curriculum makes today, and the pages show each of them."""

import re
from pathlib import Path

import matplotlib as mpl
import pytest

from benchmarks.make_pictures import FOLDER, PICTURES, write

PAGES = Path(__file__).resolve().parents[2] / "docs" / "concepts"


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name == "plan" else pytest.mark.slow) for name in PICTURES])
def test_a_picture_is_what_the_curriculum_does(name, tmp_path):
    committed = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    made_by = re.search(r"Matplotlib v([^,<]+)", committed)
    assert made_by is not None
    if made_by[1] != mpl.__version__:
        pytest.skip(f"it was drawn by matplotlib {made_by[1]}, here is {mpl.__version__}")
    assert write(name, tmp_path).read_text(encoding="utf-8") == committed, "run `python -m benchmarks.make_pictures`"


def test_every_picture_is_shown_and_every_picture_shown_is_there():
    text = "".join(page.read_text(encoding="utf-8") for page in sorted(PAGES.glob("*.md")))
    shown = re.findall(r"!\[[^\]]+\]\(\.\./pictures/(\w+)\.svg\)", text)
    assert sorted(shown) == sorted(PICTURES) == sorted(file.stem for file in FOLDER.iterdir())
