"""failures.jsonl, as extract and import write it, and what is said where too many samples failed."""

import json
from pathlib import Path

import pytest

from data_prep.failures import Failure, MediaError, check_allowed, describe_report, report_of, write_report


def test_the_file_holds_failures_then_flaws_and_goes_when_there_are_none(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "store"
    failures, flaws = [Failure("a", "audio", "a.wav", "damaged")], [Failure("b", "", "", "r\u00e9sum\u00e9")]
    write_report(out, failures, flaws=flaws)
    lines = report_of(out).read_text(encoding="utf-8").splitlines()
    assert report_of(out) == tmp_path / "deep" / "store.failures.jsonl"
    assert [json.loads(line) for line in lines] == [
        {"id": "a", "modality": "audio", "file": "a.wav", "reason": "damaged", "kept": False},
        {"id": "b", "modality": "", "file": "", "reason": "r\u00e9sum\u00e9", "kept": True},
    ]
    assert "r\u00e9sum\u00e9" in lines[1]
    write_report(out, [])
    assert list(out.parent.iterdir()) == []


def test_a_name_that_is_no_unicode_is_written_as_json_escapes_it(tmp_path: Path) -> None:
    """As a file's name on Linux, or an id in JSON, can be."""
    failure = Failure("a\udcff", "audio", "/clips/a\udcff.wav", "damaged")
    write_report(tmp_path / "store", [failure])
    assert json.loads(report_of(tmp_path / "store").read_bytes()) == vars(failure) | {"kept": False}


def test_what_a_command_says_of_the_report() -> None:
    """Samples are counted, not the lines about them."""
    one, other = Failure("a", "text", "a.txt", "late"), Failure("b", "text", "b.txt", "late")
    report = Path("s.failures.jsonl")
    assert describe_report(report, [], []) == ""
    assert describe_report(report, [one], []) == "1 sample left out, see s.failures.jsonl"
    assert describe_report(report, [], [one, one]) == "1 sample kept with flaws in the text, see s.failures.jsonl"
    told = "2 samples left out, 2 samples kept with flaws in the text, see s.failures.jsonl"
    assert describe_report(report, [one, other], [one, other, one]) == told


def test_the_first_one_is_said_with_its_place_and_what_to_write(tmp_path: Path) -> None:
    failures = [Failure("a", "audio", "a.wav", "damaged"), Failure("b", "", "", "no id")]
    check_allowed(tmp_path / "store", failures, allowed=2, total=9, what="clips fail")
    with pytest.raises(MediaError) as error:
        check_allowed(tmp_path / "store", failures, allowed=1, total=9, what="clips fail")
    assert str(error.value) == (
        "2 of 9 clips fail (1 allowed): no store was written. The first: sample 'a', audio a.wav: damaged. All: "
        f"{tmp_path}/store.failures.jsonl. Mend the data, or leave these samples out with --allow-failures 2"
    )
    with pytest.raises(MediaError, match=r"The first: sample 'b': no id\. All"):
        check_allowed(tmp_path / "store", failures[1:], allowed=0, total=9, what="clips fail")
