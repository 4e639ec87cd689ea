"""What a person sees while a run trains: a bar that fits its terminal, or plain lines."""

import io
import re

import pytest
from rich.console import Console

from mmtrain.engine.progress import ProgressBar, shares_note

MANY = [f"a-stream-with-a-long-name-{number}" for number in range(12)]


def test_the_largest_shares_come_first_and_the_rest_is_summed() -> None:
    names = ("amazon", "movies", "tweets", "nyt", "fillets")
    assert shares_note(names, (0.14, 0.16, 0.31, 0.28, 0.11)) == "tweets 31% nyt 28% +3 41%"
    assert shares_note(("clips", "calls"), (0.25, 0.75)) == "calls 75% clips 25%"
    assert shares_note(("a", "b", "c"), (0.5, 0.0, 0.5)) == "a 50% c 50%", "what is not drawn is not named"
    assert shares_note(("a", "b"), (0.0, 1.0)) == "b 100%"
    assert shares_note(("alone",), (1.0,)) == shares_note(("a", "b"), (0.0, 0.0)) == ""


@pytest.mark.parametrize("count", [2, 3, 12])
def test_any_number_of_long_names_is_short(count: int) -> None:
    note = shares_note(MANY[:count], [1 / count] * count)
    assert note.startswith("a-stream-wit")
    assert len(note) <= 30
    assert sum(int(part) for part in re.findall(r"(\d+)%", note)) == pytest.approx(100, abs=2)


def recorded(*, terminal: bool, width: int = 100) -> str:
    """What a console shows of one update in the middle of a long epoch, with colors and movements taken out."""
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    note = f"objective 0.693  {shares_note(MANY, [1 / 12] * 12)}"
    with ProgressBar(console, "epoch 12", total=120_000, done=60_000, seconds_between_lines=0.0) as progress:
        progress.update(61_234, note=lambda: note)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())


def test_the_bar_of_a_terminal_holds_objective_shares_and_time_in_100_columns() -> None:
    lines = [line for line in re.split(r"[\r\n]+", recorded(terminal=True)) if "61234/120000" in line]
    assert lines
    for line in lines:
        assert len(line) <= 100
        assert re.search(r"epoch 12 .*objective 0\.693  a-stream-wit 8% \+11 92%  \S+/s [-0-9]+:", line), line


@pytest.mark.parametrize("terminal", [False, True])
def test_a_note_is_asked_for_when_it_is_shown(terminal: bool) -> None:
    asked: list[int] = []
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with ProgressBar(console, "epoch 1", total=1000, seconds_between_lines=60.0) as progress:
        for done in range(1, 200):
            progress.update(done, note=lambda done=done: str(asked.append(done) or done))  # type: ignore[misc]
    assert asked[:1] == ([1] if terminal else [])
    assert len(asked) < 5, "one for every half second, if any"
    with ProgressBar(None, "epoch 1", total=2) as silent:
        silent.update(1, note=lambda: pytest.fail("nobody reads it"))


def test_plain_lines_hold_the_same() -> None:
    assert re.search(
        r"^epoch 12 61234/120000  objective 0\.693  a-stream-wit 8% \+11 92%  \S+/s  \S+ s left$",
        recorded(terminal=False, width=140),
    )
