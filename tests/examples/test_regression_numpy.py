"""The article's regression: what it prints is the article's own run, and beside it least squares."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.examples.running import run
from tests.support import ROOT

# What the article's program prints with its own Adam; the last line is from the normal equations.
PRINTED = """\
Epoch 10 | Loss: 9.9775 | w=0.9757, b=0.9061
Epoch 20 | Loss: 1.3384 | w=1.7800, b=1.1389
Epoch 30 | Loss: 1.1569 | w=2.2140, b=0.8627
Epoch 40 | Loss: 1.2934 | w=2.2494, b=0.8156
Epoch 50 | Loss: 0.8713 | w=2.0942, b=0.9341
Epoch 60 | Loss: 0.8289 | w=1.9734, b=0.9082
Epoch 70 | Loss: 0.8377 | w=1.9624, b=0.8766
Epoch 80 | Loss: 0.8158 | w=2.0042, b=0.9039
Epoch 90 | Loss: 0.8167 | w=2.0285, b=0.8975
Epoch 100 | Loss: 0.8156 | w=2.0227, b=0.8925
Least squares | Loss: 0.8149 | w=2.0138, b=0.8962
"""


EXAMPLE = ROOT / "examples" / "regression_numpy.py"


def test_it_prints_what_the_article_prints(tmp_path: Path) -> None:
    done = run(EXAMPLE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{PRINTED}Picture: regression.png\n" and not done.stderr
    picture = (tmp_path / "regression.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "nowhere/x.png"], "No such file or directory"),
        (["--out", "picture.doc"], "Format 'doc' is not supported"),
        (["--out", "."], "Format '' is not supported"),
        (["--epochs", "5"], "unrecognized arguments: --epochs 5"),
    ],
)
def test_mistakes(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = run(EXAMPLE, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr.splitlines()[-1]
