"""What the README shows runs as it stands, and its Adam is the one that is run."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path

import numpy as np

import adamite
from adamite.rules import adam
from tests.support import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_code_runs(tmp_path: Path) -> None:
    path = tmp_path / "readme.py"
    path.write_text("\n".join(CODE), encoding="utf-8")
    names = runpy.run_path(str(path))
    assert isinstance(names["opt"], adamite.Optimizer)
    assert all(np.isfinite(x).all() for x in names["params"].values()) and np.abs(names["params"]["w"]).max() > 0.3
    assert adamite.testing.check_rule(names["signum"])


def test_its_adam_is_the_one_that_is_run() -> None:
    written = re.sub(r' *""".*?"""\n', "", inspect.getsource(adam.function), flags=re.DOTALL)
    assert CODE[0].endswith(written)


def test_it_is_finished() -> None:
    assert not re.search(r"@@|TODO|XXX", README)
