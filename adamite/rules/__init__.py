"""The equations, one file a family. Every rule of a file in this folder is found, and listed in one table here."""

from importlib import import_module
from pkgutil import iter_modules

from adamite.language.rule import Rule


def _rules() -> dict[str, Rule]:
    files = [import_module(f"{__name__}.{file.name}") for file in iter_modules(__path__)]
    rules = [(file, value) for file in files for value in vars(file).values() if isinstance(value, Rule)]
    return {rule.name: rule for file, rule in rules if rule.function.__module__ == file.__name__}


RULES = _rules()
globals().update(RULES)  # over the files of the same name
__all__ = [*RULES]
