"""The command line where the packages that it is made with aren't installed: its version, and its help.

The commands can't be imported then, so what they take is read from their text.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import adamite
from adamite.errors import listed
from adamite.lab.extras import WHERE, advice

OWN_RULE = "a rule of yours, file.py:name"  # which some commands take too
HELP = ("--help", "-h")
_NEEDED = f"To run a command: pip install {WHERE['typer']}"


class Taken(NamedTuple):
    """An option of a command, or an argument."""

    name: str
    words: str


class Command(NamedTuple):
    """A command by its text."""

    words: str
    takes: tuple[Taken, ...]


def run(arguments: Sequence[str], missing: ModuleNotFoundError) -> int | str:
    """Print what can be told; return the exit status, or what to install where that isn't what was asked for."""
    if missing.name not in WHERE:
        raise missing
    known = commands()
    named = next((word for word in arguments if not word.startswith("-")), None)
    before = arguments[: arguments.index(named)] if named is not None else arguments
    given = [*(("option", word, ("--version", *HELP)) for word in before), ("command", named, known)]
    for kind, word, choices in given:
        if word is not None and word not in choices:
            close = get_close_matches(word, choices, n=1)
            print(f"Error: No such {kind} {word!r}.{f' Did you mean {close[0]!r}?' if close else ''}", file=sys.stderr)
            return 2
    if "--version" in before:
        print(f"adamite {adamite.__version__}")
    elif named is None:
        first = [f"  {name:10}{command.words.partition('.')[0]}." for name, command in known.items()]
        print("\n".join(["Usage: adamite COMMAND ...", "", "Commands:", *first, "", _NEEDED]))
    elif not set(HELP).isdisjoint(arguments):
        print(_help(named, known[named]))
    else:
        return f"adamite: {advice(missing.name)}"
    return 0


def commands() -> dict[str, Command]:
    """Every command by its name."""
    return {
        name: Command(ast.get_docstring(function) or "", tuple(_takes(function)))
        for path in sorted(Path(__file__).parent.glob("*.py"))
        for function in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(function, ast.FunctionDef)
        for name in _names(function)
    }


def _names(function: ast.FunctionDef) -> Iterator[str]:
    """What `@app.command()` or `@app.command("name")` calls it, if that is above it."""
    for call in function.decorator_list:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "app.command":
            yield from _constants(call.args) or [function.name]


def _takes(function: ast.FunctionDef) -> Iterator[Taken]:
    for argument in function.args.args:
        for call in ast.walk(argument.annotation or ast.Constant(None)):
            if isinstance(call, ast.Call):
                given = {word.arg: "".join(_constants([word.value])) for word in call.keywords}
                words = _constants(call.args)
                kind = ast.unparse(call.func)
                if kind == "library":
                    yield Taken("WHAT", f"{listed([*words, OWN_RULE], 'or')}.")
                elif kind == "typer.Option":
                    yield Taken([*words, f"--{argument.arg.replace('_', '-')}"][0], given.get("help", ""))
                else:
                    yield Taken(given.get("metavar", argument.arg.upper()), given.get("help", ""))


def _constants(nodes: Sequence[ast.expr]) -> list[str]:
    return [str(node.value) for node in nodes if isinstance(node, ast.Constant)]


def _help(name: str, command: Command) -> str:
    paragraphs = [_indented(words, "  ") for words in command.words.split("\n\n")]
    takes = "\n".join(_indented(f"{each.name:15}{each.words}", "  ", " " * 17) for each in command.takes)
    parts = [f"Usage: adamite {name} ...", *paragraphs, *[f"It takes:\n{takes}"] * bool(takes), _NEEDED]
    return "\n\n".join(parts)


def _indented(words: str, first: str, others: str = "") -> str:
    return textwrap.fill(words, 80, initial_indent=first, subsequent_indent=others or first)
