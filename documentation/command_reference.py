"""The reference of the command line: the help of every command, as the command itself prints it."""

from collections.abc import Iterator
from typing import Any

import typer
from typer.main import get_command

from data_prep.cli import app as data_prep_app
from mmtrain.cli import app as mmtrain_app

PROGRAMS = {"mmtrain": mmtrain_app, "python -m data_prep": data_prep_app}
_PAGES = {"mmtrain": "mmtrain", "python -m data_prep": "data_prep"}


def pages() -> dict[str, str]:
    """Markdown by path in the site: a page a program, with a heading a command."""
    return {f"reference/commands/{_PAGES[name]}.md": _page(name) for name in PROGRAMS}


def commands(program: str) -> Iterator[tuple[str, Any]]:
    """(words, command) of every command of a program, those of groups too; groups themselves are left out."""
    yield from _below(program, get_command(PROGRAMS[program]))


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that a command line means, and its arguments. Errors: KeyError where there is none of this name."""
    program, rest = ("mmtrain", words[1:]) if words[0] == "mmtrain" else ("python -m data_prep", words[3:])
    command = get_command(PROGRAMS[program])
    while hasattr(command, "commands") and rest and not (command.params and rest[0].startswith("-")):
        if rest[0] not in command.commands and "run" in command.commands:  # what `mmtrain ablate FILE` means
            rest = ["run", *rest]
        found = command.commands.get(rest[0])
        if found is None:
            raise KeyError(f"{program} has no command '{rest[0]}'; it has: {', '.join(command.commands)}")
        command, rest = found, rest[1:]
    return command, rest


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for word, below in command.commands.items():
        yield from _below(f"{name} {word}", below)


def _page(program: str) -> str:
    lines = [f"# `{program}`", ""]
    if program == "mmtrain":
        lines += [
            "`accelerate launch mmtrain/train.py ARGUMENTS` is `mmtrain train ARGUMENTS` on several processes. Exit codes: "
            "0; 1 defects or failures; 2 an error of the user, in one message; 3 NaN or Inf; 130 a signal.",
            "",
        ]
    for words, command in commands(program):
        lines += [f"## `{words}`", "", "```text", _help(words, command), "```", ""]
    return "\n".join(lines)


def _help(words: str, command: Any) -> str:
    command.rich_markup_mode = None  # plain text, without boxes
    context = typer.Context(command, info_name=words, terminal_width=88, max_content_width=88)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
