"""The dialogues of Fish Fillets NG: subtitle, recorded voice and picture of the level, through apt and dpkg."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_prep.fetch.record import is_complete, sha256, write_json, write_manifest, write_record
from data_prep.split import count_by_group, split_groups
from mmtrain.errors import DataError

PACKAGES = ("fillets-ng-data", "fillets-ng-data-cs")
OUTPUTS = ("manifest.csv", "manifest.json", "audio", "pictures")
COLUMNS = ("id", "split", "group", "text", "audio", "video", "speaker", "question", "exclamation")
TASKS = {
    "speaker": {"kind": "multiclass", "classes": ["small", "big", "other"]},
    "question": {"kind": "binary"},
    "exclamation": {"kind": "binary"},
}
SYNTH = "`python -m data_prep synth` makes a store that can stand in for it"
_STRING = r'"((?:[^"\\]|\\.)*)"'
_LINE = re.compile(rf"^\s*dialogId\(\s*{_STRING}\s*,\s*{_STRING}\s*,\s*{_STRING}\s*\)", re.MULTILINE)
_ROOM = re.compile(r"createRoom\(\s*\d+\s*,\s*\d+\s*,\s*([^)]*)\)")
_TAIL = re.compile(r"(?:[.?!…]+[\"'”“\u2019)\s]*)+$")


@dataclass(frozen=True)
class Line:
    """One subtitle: where it is said, by whom, and what its end was."""

    level: str
    name: str
    text: str
    speaker: str
    question: int
    exclamation: int


def fetch_fillets(out: Path, say: Callable[[str], None]) -> None:
    """Write manifest.csv, its media and its tasks to `out`. Needs apt and dpkg, no root."""
    if is_complete(out, OUTPUTS):
        say(f"{out}: complete, hashes verified; nothing to do")
        return
    if not all(map(shutil.which, ("apt-get", "apt-cache", "dpkg"))):
        raise DataError(f"fetch fillets needs apt-get, apt-cache and dpkg, which this machine lacks; {SYNTH}")
    cache = out / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    downloads = [_download(package, cache, say) for package in PACKAGES]
    unpacked = cache / "unpacked.partial"
    shutil.rmtree(unpacked, ignore_errors=True)
    for download in downloads:
        _run(["dpkg", "-x", str(out / download["file"]), str(unpacked)])
    rows = gather(unpacked / "usr" / "share" / "games" / "fillets-ng", out)
    shutil.rmtree(unpacked)
    write_manifest(out / "manifest.csv", rows, columns=COLUMNS)
    write_json(out / "manifest.json", {"name": "fillets", "licence": "GPL-2.0-or-later", "tasks": TASKS})
    write_record(out, source="apt-get download", downloads=downloads, outputs=OUTPUTS)
    say(f"{out}: {len(rows)} lines, {sum(bool(row[4]) for row in rows)} of them with a recorded voice")


def gather(game: Path, out: Path) -> list[tuple[object, ...]]:
    """Rows of the manifest, with the voices and pictures that they name copied from the game's folder to `out`."""
    lines = [line for level in sorted((game / "script").glob("*/dialogs_en.lua")) for line in read_lines(level)]
    kinds = ((line.level, (line.speaker, f"?{line.question}", f"!{line.exclamation}")) for line in lines)
    splits = split_groups(count_by_group(kinds))
    for folder in ("audio", "pictures"):
        shutil.rmtree(out / folder, ignore_errors=True)
    pictures = {level: _copy(_picture(game, level), out, f"pictures/{level}") for level in splits}
    rows: list[tuple[object, ...]] = []
    for line in lines:
        voice = game / "sound" / line.level / "cs" / f"{line.name}.ogg"
        audio = _copy(voice, out, f"audio/{line.level}/{line.name}") if voice.is_file() else ""
        media = (audio, pictures[line.level])
        labels = (line.speaker, line.question, line.exclamation)
        rows.append((f"{line.level}/{line.name}", splits[line.level], line.level, line.text, *media, *labels))
    return rows


def read_lines(script: Path) -> Iterator[Line]:
    """The spoken lines of one level's dialogs_en.lua."""
    content = script.read_text(encoding="utf-8")
    for name, font, text in _LINE.findall(content):
        whole = re.sub(r"\\(.)", r"\1", text).strip()
        if whole:
            speaker = {"font_small": "small", "font_big": "big"}.get(font, "other")
            rest, question, exclamation = cut_punctuation(whole)
            yield Line(script.parent.name, name, rest, speaker, question, exclamation)


def cut_punctuation(text: str) -> tuple[str, int, int]:
    """The text without the marks at its end, and whether they asked or exclaimed; a closing quote or bracket stays.

    >>> cut_punctuation('Who said "why?!"')
    ('Who said "why"', 1, 1)
    """
    found = _TAIL.search(text)
    tail = found.group() if found else ""
    kept = re.sub(r"[.?!…\s]", "", tail)
    return (text[: len(text) - len(tail)] + kept).strip(), int("?" in tail), int("!" in tail)


def _picture(game: Path, level: str) -> Path:
    """The picture that the level's script gives to createRoom."""
    for script in sorted((game / "script" / level).glob("*.lua")):
        room = _ROOM.search(script.read_text(encoding="utf-8", errors="replace"))
        if room:
            return game / re.sub(r'"\s*\.\.\s*codename\s*\.\.\s*"', level, room.group(1)).strip().strip('"')
    raise DataError(f"{game / 'script' / level}: no script of this level names its picture (createRoom)")


def _copy(file: Path, out: Path, name: str) -> str:
    """Copy a file to `out` under a name, its suffix kept; returns the path relative to `out`."""
    target = out / f"{name}{file.suffix}"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, target)
    return target.relative_to(out).as_posix()


def _download(package: str, cache: Path, say: Callable[[str], None]) -> dict[str, str]:
    """Bring one package into the cache, unless it is there, and check it against apt's hash."""
    version, expected = _describe(package, say)
    deb = _cached(package, cache, expected)
    if deb is None:
        say(f"downloading {package} {version} with apt-get")
        _run(["apt-get", "download", "-q", f"{package}={version}"], cwd=cache)
        deb = _cached(package, cache, expected)
    if deb is None:
        raise DataError(
            f"{cache}: {package} {version} does not have the sha256 {expected} that apt-cache names; fetch again"
        )
    return {"file": f"{cache.name}/{deb.name}", "version": version, "sha256": expected}


def _describe(package: str, say: Callable[[str], None]) -> tuple[str, str]:
    """Version and sha256 of a package, from apt's lists."""
    command = ["apt-cache", "show", "--no-all-versions", package]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    if not shown and os.geteuid() == 0:
        say(f"apt does not know {package} yet: running apt-get update")
        _run(["apt-get", "update", "-q"])
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    fields = dict(line.split(": ", 1) for line in shown.splitlines() if re.match(r"(Version|SHA256): ", line))
    if len(fields) != 2:
        raise DataError(
            f"apt does not know the package {package}. Run `apt-get update` as root, then fetch again; or {SYNTH}"
        )
    return fields["Version"], fields["SHA256"]


def _cached(package: str, cache: Path, expected: str) -> Path | None:
    return next((deb for deb in sorted(cache.glob(f"{package}_*.deb")) if sha256(deb) == expected), None)


def _run(command: Sequence[str], *, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"`{' '.join(command)}` failed: {done.stderr.strip()[-400:]}. Try again; or {SYNTH}")
