"""The command line without the packages that it needs (typer, rich): its version and its help.

The commands can't be imported then, so their options are read from their source.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import adamite
from adamite.errors import listed
from adamite.lab.extras import WHERE, advice

OWN_RULE = "a rule of yours, file.py:name"  # some commands take one as an argument
HELP = ("--help", "-h")
_NEEDED = f"To run a command: pip install {WHERE['typer']}"


class Parameter(NamedTuple):
    """An option of a command, or an argument."""

    name: str
    help: str


class Command(NamedTuple):
    """A command, as its source describes it."""

    help: str
    parameters: tuple[Parameter, ...]


def run(arguments: Sequence[str], missing: ModuleNotFoundError) -> int | str:
    """Print the version or a help; return the exit status, or what to install if a command was to be run."""
    if missing.name not in WHERE:
        raise missing
    by_name = commands()
    named = next((word for word in arguments if not word.startswith("-")), None)
    before = arguments[: arguments.index(named)] if named is not None else arguments
    words = [*(("option", word, ("--version", *HELP)) for word in before), ("command", named, by_name)]
    for kind, word, choices in words:
        if word is not None and word not in choices:
            close = get_close_matches(word, choices, n=1)
            print(f"Error: No such {kind} {word!r}.{f' Did you mean {close[0]!r}?' if close else ''}", file=sys.stderr)
            return 2
    if "--version" in before:
        print(f"adamite {adamite.__version__}")
    elif named is None:
        lines = [f"  {name:10}{command.help.partition('.')[0]}." for name, command in by_name.items()]
        print("\n".join(["Usage: adamite COMMAND ...", "", "Commands:", *lines, "", _NEEDED]))
    elif not set(HELP).isdisjoint(arguments):
        print(_help(named, by_name[named]))
    else:
        return f"adamite: {advice(missing.name)}"
    return 0


def commands() -> dict[str, Command]:
    """Every command by its name."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    statements = [each for path in files for each in ast.parse(path.read_text(encoding="utf-8")).body]
    options = {ast.unparse(each.targets[0]): each.value for each in statements if isinstance(each, ast.Assign)}
    return {
        name: Command(ast.get_docstring(function) or "", tuple(_parameters(function, options)))
        for function in statements
        if isinstance(function, ast.FunctionDef)
        for name in _names(function)
    }


def _names(function: ast.FunctionDef) -> Iterator[str]:
    """The command's name by `@app.command()` or `@app.command("name")`; nothing for other functions."""
    for call in function.decorator_list:
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "app.command":
            yield from _constants(call.args) or [function.name]


def _parameters(function: ast.FunctionDef, options: Mapping[str, ast.expr]) -> Iterator[Parameter]:
    """The options and arguments of a command; `options` has those that are declared by a name (options.py)."""
    for argument in function.args.args:
        annotation = argument.annotation or ast.Constant(None)
        for call in ast.walk(options.get(ast.unparse(annotation), annotation)):
            if isinstance(call, ast.Call):
                keywords = {word.arg: "".join(_constants([word.value])) for word in call.keywords}
                words = _constants(call.args)
                kind = ast.unparse(call.func)
                if kind == "library":
                    yield Parameter("WHAT", f"{listed([*words, OWN_RULE], 'or')}.")
                elif kind == "typer.Option":
                    yield Parameter([*words, f"--{argument.arg.replace('_', '-')}"][0], keywords.get("help", ""))
                else:
                    yield Parameter(keywords.get("metavar", argument.arg.upper()), keywords.get("help", ""))


def _constants(nodes: Sequence[ast.expr]) -> list[str]:
    return [str(node.value) for node in nodes if isinstance(node, ast.Constant)]


def _help(name: str, command: Command) -> str:
    paragraphs = [_indented(words, "  ") for words in command.help.split("\n\n")]
    lines = (_indented(f"{each.name:15}{each.help}", "  ", " " * 17) for each in command.parameters)
    parameters = "\n".join(lines)
    parts = [f"Usage: adamite {name} ...", *paragraphs, *[f"It takes:\n{parameters}"] * bool(parameters), _NEEDED]
    return "\n\n".join(parts)


def _indented(words: str, first: str, others: str = "") -> str:
    return textwrap.fill(words, 80, initial_indent=first, subsequent_indent=others or first)
