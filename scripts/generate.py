"""Write what follows from the catalogue of optimizers: `.pyi` files for editors and type checkers, a page of the docs.

`make generate` runs it; tests/frontend/test_generated.py says when a file is stale.
"""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from adamite.frontend.catalogue import CATALOGUE, KERAS, OPTAX, TORCH, Row
from adamite.frontend.spelling import Form, Spelling
from adamite.language.rule import REQUIRED
from adamite.numpy.base import Optimizer
from adamite.rules import RULES

ROOT = Path(__file__).resolve().parent.parent
_HEAD = "# Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`.\n\n"


def files() -> dict[Path, str]:
    """The text of each file, by its path."""
    packages = {
        "": _adamite(),
        "rules": _rules(),
        "numpy": _numpy(),
        "torch": _torch(),
        "keras": _keras(),
        "jax": _jax(),
    }
    stubs = {
        ROOT / "adamite" / package / "__init__.pyi": _sorted(f"{_HEAD}{text}\n") for package, text in packages.items()
    }
    return {**stubs, ROOT / "docs" / "optimizers.md": _page()}


def _sorted(text: str) -> str:
    """The text with its imports and names in ruff's order. A signature stays on one line, however long."""
    ruff = [str(Path(sys.executable).with_name("ruff")), "check", "--select", "I,RUF022", "--fix", "--quiet"]
    command = [*ruff, "--stdin-filename", "stub.pyi", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT).stdout


def _adamite() -> str:
    names = ", ".join(row.name for row in CATALOGUE)
    exports = {
        "adamite": ["numpy", "schedules", "testing"],
        "adamite.engine.threads": ["set_threads", "threads"],
        "adamite.errors": ["NonFiniteError", "RuleError", "StateDictError"],
        "adamite.footprint": ["memory"],
        "adamite.language.maths": ["abs", "maximum", "minimum", "sign", "sqrt", "where"],
        "adamite.language.rule": ["Rule", "Scalar", "Unsigned", "rule"],
        "adamite.minimization": ["minimize"],
        "adamite.sparse.rows": ["Rows"],
    }
    every = [row.name for row in CATALOGUE] + ["Optimizer", "optimizer"]
    every += [name for module, names in exports.items() if module != "adamite" for name in names] + ["schedules"]
    imports = [f"from {module} import {_again(names)}" for module, names in exports.items()]
    imports += [f"from adamite.numpy import {names}, Optimizer, optimizer", "__version__: str", _all(every)]
    return "\n".join(imports)


def _rules() -> str:
    rules = [f"{name}: Rule" for name in RULES]
    return "\n".join(["from adamite.language.rule import Rule", _all(RULES), "RULES: dict[str, Rule]", *rules])


def _numpy() -> str:
    own = ["self", "params", "lr", "hyperparameters"]
    parameters = inspect.signature(Optimizer.__init__).parameters
    options = [f"    {p.name}: {p.annotation}" for p in parameters.values() if p.name not in own]
    return "\n".join(
        [
            "from collections.abc import Mapping",
            "from typing import Any, TypedDict",
            "from typing_extensions import Unpack",
            "from adamite.frontend.settings import NonFinite, Schedule",
            "from adamite.frontend.spelling import Framework",
            "from adamite.language.update import Decay",
            "from adamite.numpy.base import Optimizer",
            "from adamite.numpy.classes import OPTIMIZERS, optimizer",
            "from adamite.numpy.hyperparameters import Group",
            "from adamite.sparse.rows import Sparse",
            "from adamite.storage.choice import StateDtype",
            _all([*(row.name for row in CATALOGUE), "OPTIMIZERS", "Group", "Optimizer", "optimizer"]),
            "Number = float | Schedule",
            "\nclass Options(TypedDict, total=False):",
            *options,
            *(_class(row.name, "Optimizer", _doc(row), _numpys(row)) for row in CATALOGUE),
        ]
    )


def _numpys(row: Row) -> str:
    """All numbers and choices of the conventions, with the paper's defaults."""
    rules = {convention.rule: None for convention in (row.paper, *row.conventions.values())}
    numbers = {name: number for rule in rules for name, number in rule.numbers.items()}
    choices = {name: choice for rule in rules for name, choice in rule.choices.items()}
    arguments = [] if "lr" in numbers else ["lr: Number = ..."]
    for name, number in numbers.items():
        optional = " | None" if number.optional or name in row.paper.follows else ""
        arguments.append(f"{name}: Number{optional} = {_default(row.paper.default(name))}")
    arguments += [f"{name}: {_type_of(choice.default)} = {choice.default!r}" for name, choice in choices.items()]
    arguments.insert(1, "*")
    return f"self, params: Any, {', '.join(arguments)}, **options: Unpack[Options]"


def _torch() -> str:
    types = {
        "lr": "Number",
        "betas": "Betas",
        "weight_decay": "Number",
        "foreach": "bool | None",
        "fused": "bool | None",
    }
    classes = [
        _class(spelling.name, spelling.base or "Optimizer", _doc(row), f"self, params: Any, {form}, {extras}")
        for row, spelling in _spelled(TORCH)
        for form, extras in [(_form(spelling.form, types, "float"), "**extras: Unpack[Extras]")]
    ]
    return "\n".join(
        [
            "from typing import Any",
            "import torch",
            "from typing_extensions import Unpack",
            "from adamite.torch.base import Optimizer",
            "from adamite.torch.classes import OPTIMIZERS, optimizer",
            "from adamite.torch.groups import param_groups",
            "from adamite.torch.options import Extras",
            "from adamite.torch.step_in_backward import StepInBackward",
            _all([*TORCH, "OPTIMIZERS", "Extras", "Optimizer", "StepInBackward", "optimizer", "param_groups"]),
            "Number = float | torch.Tensor",
            "Betas = tuple[Number, Number]",
            *classes,
        ]
    )


def _keras() -> str:
    types = {"learning_rate": "Any"}
    classes = [
        _class(spelling.name, spelling.base or "Optimizer", _doc(row), f"self, {form}, **options: Unpack[Extras]")
        for row, spelling in _spelled(KERAS)
        for form in [_form(spelling.form, types, "float")]
    ]
    return "\n".join(
        [
            "from typing import Any",
            "from typing_extensions import Unpack",
            "from adamite.keras.base import Optimizer",
            "from adamite.keras.classes import OPTIMIZERS, optimizer",
            "from adamite.keras.schedules import Schedule",
            "from adamite.keras.settings import Extras, Options",
            _all([*KERAS, "OPTIMIZERS", "Extras", "Optimizer", "Options", "Schedule", "optimizer"]),
            *classes,
        ]
    )


def _jax() -> str:
    types = {"mu_dtype": "Any", "accumulator_dtype": "Any", "mask": "Mask", "weight_decay_mask": "Mask"}
    functions = [
        f"\ndef {spelling.name}({_form(spelling.form, types, 'Number')}) -> Transformation:\n    {_doc(row)}"
        for row, spelling in _spelled(OPTAX)
    ]
    return "\n".join(
        [
            "from typing import Any",
            "from adamite.jax.functions import OPTIMIZERS, optimizer",
            "from adamite.jax.transformation import State, Transformation",
            _all([*OPTAX, "OPTIMIZERS", "State", "Transformation", "optimizer"]),
            "Number = Any  # a float, an array of no axes that may be traced, or a schedule: steps done -> value",
            "Mask = Any  # a tree of bools, a prefix of the parameters', or a function that makes one of them",
            *functions,
        ]
    )


def _spelled(spellings: Mapping[str, Spelling]) -> Iterable[tuple[Row, Spelling]]:
    for row in CATALOGUE:
        for spelling in (row.torch, row.keras, row.optax, *row.also):
            if isinstance(spelling, Spelling) and spellings.get(spelling.name) is spelling:
                yield row, spelling


def _form(form: Form, types: Mapping[str, str], number: str) -> str:
    arguments = []
    for name, default in form.arguments.items():
        type_ = types.get(name) or ("bool" if isinstance(default, bool) else number)
        type_ += " | None" if default is None and name not in types else ""
        arguments.append(f"{name}: {type_}" if default is REQUIRED else f"{name}: {type_} = {_default(default)}")
    if form.positional < len(arguments):
        arguments.insert(form.positional, "*")
    return ", ".join(arguments)


def _class(name: str, base: str, doc: str, arguments: str) -> str:
    return f"\nclass {name}({base}):\n    {doc}\n    def __init__({arguments}) -> None: ..."


def _doc(row: Row) -> str:
    return f'"""{_title(row)}"""'


def _title(row: Row) -> str:
    return row.paper.title or row.paper.rule.title


def _default(value: Any) -> str:
    return "..." if value is REQUIRED else repr(value)


def _type_of(default: Any) -> str:
    return type(default).__name__


def _all(names: Iterable[str]) -> str:
    return f"__all__ = {[*names]!r}"


def _again(names: Iterable[str]) -> str:
    return ", ".join(f"{name} as {name}" for name in names)


def _page() -> str:
    """The table of the docs."""
    rows = ["| adamite | what it is | `adamite.torch` | `adamite.keras` | `adamite.jax` |", "|---|---|---|---|---|"]
    for row in CATALOGUE:
        names = [
            ", ".join(_shown(column) for column in columns if isinstance(column, Spelling)) or "–"
            for columns in ((row.torch,), (row.keras,), (row.optax, *row.also))
        ]
        rows.append(f"| {row.name} | {_title(row)} | {' | '.join(names)} |")
    return "\n".join([_INTRODUCTION, *rows, "", _NOTES])


_INTRODUCTION = """# Optimizers

<!-- Written by scripts/generate.py from the catalogue; don't edit it, run `make generate`. -->

Each row is one optimizer. Its equations are written once, in `adamite/rules/`. `adamite show NAME` prints them, its
hyperparameters with their ranges, and how the frameworks differ.
"""
_NOTES = """An asterisk marks what the framework itself lacks: there the class follows the framework's conventions.
All others have the framework's signature, defaults and numbers. A dash means that there is no class of this name.

`adamite.optimizer(rule)`, `adamite.torch.optimizer(rule)`, `adamite.keras.optimizer(rule)` and
`adamite.jax.optimizer(rule)` make the same from a rule of your own, or from a variant such as `"radam_eps_hat"`.
"""


def _shown(spelling: Spelling) -> str:
    return spelling.name + r" \*" * spelling.ours


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
