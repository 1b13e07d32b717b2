"""Options that several commands have."""

from typing import Annotated

import typer

Problem = Annotated[str, typer.Option(help="One of ours, or yours: path/to/file.py:function, or module:function.")]
Optimizer = Annotated[str, typer.Option(help="Its name; your own rule as path/to/file.py:rule.")]
Jobs = Annotated[int, typer.Option(min=0, help="Processes; 0: one per core.")]
