"""Every code block of docs/ holds: Python is run, YAML is an experiment or a part of one, commands parse."""

import re
import shlex
import typing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from page_blocks import PAGES, ROOT, WHOLE, Block, blocks, command_lines, own_command
from pydantic import BaseModel

from documentation.command_reference import find
from mmtrain.config import Experiment, load
from mmtrain.errors import ConfigError
from mmtrain.models.fusion import FUSIONS

ALL = [block for page in PAGES for block in blocks(page)]
# programs of a shell block that are not ours: none of their options are checked
OTHERS = {"pip", "pytest", "git", "cd", "ls", "cat", "python", "make", "wandb", "$EDITOR", "slurm/submit.sh"}
LANGUAGES = {"python", "yaml", "sh", "text", "csv", "json"}
# what fragments of pages are merged over
BASE = """
name: clips
datasets: {clips: {store: stores/clips}, calls: {store: stores/calls}, wild: {store: stores/wild}}
streams: {clips: {dataset: clips, tasks: [funny, mood]}, calls: {dataset: calls, tasks: [funny, pitch]}}
model: {text: {path: bert-base-uncased}, sequences: {audio: {name: linear}, video: {name: linear}}}
"""


def of(language: str) -> pytest.MarkDecorator:
    found = [block for block in ALL if block.language == language]
    return pytest.mark.parametrize("block", found, ids=lambda block: block.id)


def left_out(block: Block) -> None:
    """Say, and skip, what cannot be run anywhere."""
    if reason := block.noted("not run"):
        pytest.skip(f"{block.id} is not run: {reason}")


def test_every_block_is_of_a_language_that_is_tested() -> None:
    assert [block.id for block in ALL if block.language not in LANGUAGES] == []
    assert len(ALL) == sum(page.read_text().count("\n```\n") + page.read_text().endswith("\n```") for page in PAGES)


def test_every_comment_before_a_block_is_one_that_is_understood() -> None:
    words = ("not run", "run by", "part of", "row of")
    assert [block.id for block in ALL if block.note and not any(block.noted(word) for word in words)] == []


def test_the_tests_that_run_blocks_are_there() -> None:
    for block in ALL:
        file, _, test = block.noted("run by").partition("::")
        assert not file or f"def {test}(" in (ROOT / file).read_text(encoding="utf-8"), f"{block.id}: {file} has no {test}"


@of("python")
def test_python_is_run(block: Block) -> None:
    left_out(block)
    code = compile(block.text, block.id, "exec")
    if not block.noted("run by") and block.page not in WHOLE:  # it needs nothing of what stands around it
        exec(code, {})  # noqa: S102


@of("yaml")
def test_yaml_is_an_experiment_or_a_part_of_one(block: Block, tmp_path: Path) -> None:
    left_out(block)
    tree = yaml.safe_load(block.text)
    for key in reversed(list(filter(None, block.noted("part of").split(".")))):
        tree = {key: tree}
    if "experiment" in tree:  # a matrix: it is read, with its experiment, where its page is run
        assert block.page in WHOLE or block.noted("run by"), block.id
        return
    unknown = tree.keys() - Experiment.model_fields.keys() - {"base", "stages", "stage"}
    assert not unknown, f"{block.id}: {unknown} is no part of an experiment; say `<!-- part of: KEY -->`"
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    is_whole = {"name", "datasets", "streams", "model"} <= tree.keys()
    file = tmp_path / "block.yaml"
    file.write_text(yaml.safe_dump(tree if is_whole else tree | {"base": "base.yaml"}, sort_keys=False), encoding="utf-8")
    load(file)


@of("sh")
def test_commands_parse(block: Block) -> None:
    left_out(block)
    for words in command_lines(block.text):
        own = own_command(words)
        if own:
            check_command(own)
        else:
            assert words[0] in OTHERS, f"{block.id}: what is '{words[0]}'?"


def check_command(own: list[str]) -> None:
    command, arguments = find(own)
    context = command.make_context(" ".join(own), list(arguments))
    for override in context.params.get("overrides") or ():
        check_override(override)


def check_override(override: str) -> None:
    """Its dotted key is one of an experiment."""
    keys = override.partition("=")[0].split(".")
    keys = keys[2:] if keys[0] == "stages" else keys
    assert keys == ["stage"] or allows(Experiment, keys), f"{override}: an experiment has no such key"


def allows(annotation: Any, keys: list[str]) -> bool:
    """Whether dotted keys may stand below what an annotation describes."""
    if not keys:
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(keys[0])
        return field is not None and allows(field.annotation, keys[1:])
    below = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return allows(below[1], keys[1:])
    return any(allows(option, keys) for option in below)


def test_a_wrong_command_option_or_key_is_seen() -> None:
    check_command(["mmtrain", "train", "--config", "x.yaml", "training.epochs=2", "model.sequences.audio.name=gru"])
    check_command(["python", "-m", "data_prep", "import", "mmsa", "x.pkl", "--out", "y"])
    with pytest.raises(KeyError, match="no command 'trian'"):
        check_command(["mmtrain", "trian"])
    with pytest.raises(Exception, match="--confg"):
        check_command(["mmtrain", "train", "--confg", "x.yaml"])
    with pytest.raises(AssertionError, match="no such key"):
        check_command(["mmtrain", "train", "--config", "x.yaml", "training.epoch=2"])


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_commands_in_sentences_have_what_they_need(page: Path) -> None:
    for command in inline_commands(page.read_text(encoding="utf-8")):
        check_inline(command)


def inline_commands(markdown: str) -> list[list[str]]:
    """Commands of ours between single backticks, as words; of a block none."""
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", markdown, flags=re.M | re.S))
    words = [
        shlex.split(span.removesuffix("...")) for span in spans if re.match(r"(mmtrain|(python -m )?data_prep) \w", span)
    ]
    return [["python", "-m", *line] if line[0] == "data_prep" else line for line in words]


def check_inline(words: list[str]) -> None:
    """A command that names what it is for is whole; one that is only named by its options has those."""
    command, arguments = find(words)
    if arguments and not arguments[0].startswith("-"):
        check_command(words)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    assert {word for word in arguments if word.startswith("--")} <= known, " ".join(words)


def test_a_command_in_a_sentence_that_lacks_something_is_seen() -> None:
    text = "`mmtrain train` or `data_prep split STORE --stratify x`, `mmtrain evaluate --spilt test`\n"
    text += "```sh\nx `mmtrain no`\n```\n"
    found = inline_commands(text)
    assert found[1] == ["python", "-m", "data_prep", "split", "STORE", "--stratify", "x"]
    check_inline(found[0])
    with pytest.raises(Exception, match="out"):
        check_inline(found[1])
    with pytest.raises(AssertionError, match="--spilt"):
        check_inline(found[2])
    assert len(found) == 3


def test_what_a_line_runs() -> None:
    text = "A=1 accelerate launch --num_processes 2 mmtrain/train.py --config x.yaml \\\n  a=1 # why\nls && mmtrain pack s"
    found = [own_command(words) for words in command_lines(text)]
    assert found == [["mmtrain", "train", "--config", "x.yaml", "a=1"], [], ["mmtrain", "pack", "s"]]
    assert own_command(["timeout", "--signal=INT", "20", "mmtrain", "train"]) == ["mmtrain", "train"]


def test_a_wrong_fragment_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- part of: curriculum -->\n\n```yaml\n# a.yaml\nsampler: {name: unifrom}\n```\n")
    (block,) = blocks(page)
    assert (block.file, block.noted("part of"), block.line) == ("a.yaml", "curriculum", 3)
    with pytest.raises(ConfigError, match="unifrom"):
        test_yaml_is_an_experiment_or_a_part_of_one(block, tmp_path)


def test_shell_blocks_of_the_readme_parse() -> None:
    for block in blocks(ROOT / "README.md"):
        if block.language == "sh":
            test_commands_parse(block)


def test_links_lead_to_pages_of_the_site() -> None:
    from documentation.links import ROOT_PAGES, rewrite

    for page in PAGES:
        path = page.relative_to(ROOT).as_posix()
        rewrite(page.read_text(encoding="utf-8"), source=path, page=path.removeprefix("docs/"), root=ROOT)
    for source, page in ROOT_PAGES.items():
        text = rewrite((ROOT / source).read_text(encoding="utf-8"), source=source, page=page, root=ROOT)
        assert "](docs/" not in text
    for nowhere in ("../mmtrain/cli.py", "nothing.md", "how-to"):
        with pytest.raises(ValueError, match=re.escape(f"docs/a.md: the link to {nowhere} leads to no page")):
            rewrite(f"[x]({nowhere})", source="docs/a.md", page="a.md", root=ROOT)
    in_code = "```md\n[x](nothing.md)\n```"
    assert rewrite(in_code, source="docs/a.md", page="a.md", root=ROOT) == in_code
    up = rewrite("[x](../../README.md#a)", source="docs/how-to/a.md", page="how-to/a.md", root=ROOT)
    config = rewrite("[x](configs/demo.yaml)", source="README.md", page="index.md", root=ROOT)
    assert (up, config) == ("[x](../index.md#a)", "[x](reference/configs.md#configs-demo-yaml)")


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert {page.relative_to(ROOT / "docs").as_posix() for page in PAGES} <= set(listed)


def test_the_page_on_migration_names_what_there_is() -> None:
    package = Path(find_spec("transformers").origin).parent  # read, for importing the Trainer takes seconds
    arguments = (package / "training_args.py").read_text(encoding="utf-8").split("class TrainingArguments")[1]
    page = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8")
    ours, theirs = set(), set()
    for line in page.split("| `TrainingArguments` | here |")[1].split("\n\n")[0].splitlines()[2:]:
        theirs |= set(re.findall(r"`(\w+)`", line.split("|")[1]))
        ours |= {
            key for key in re.findall(r"`([\w.<>]+)(?:: [^`]*)?`", line.split("|")[2]) if "/" not in key and key != "load"
        }
    assert theirs <= set(re.findall(r"^    (\w+): ", arguments, re.M))
    assert len(theirs) > 20
    for key in ours:
        assert allows(Experiment, key.split(".")), key
    fusions = {row.model_fields["name"].default for row in FUSIONS}
    assert {"tensor", "low_rank", "cross_attention", "misa", "mag", "early_concat", "concat"} <= fusions
    for path in re.findall(r"`(configs/[\w/]+\.yaml)`", page):
        assert (ROOT / path).is_file(), path
