"""The bytes predicted before a training are those in memory after a step."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adamite
from adamite.engine import kernels
from adamite.footprint import DTYPES, SCALAR, STEP, Memory, Row, memory, shown
from adamite.frontend.catalogue import TORCH
from adamite.numpy import OPTIMIZERS
from tests.support import ROOT, python
from tests.test_cli import adamite as command

torch = pytest.importorskip("torch")
st = pytest.importorskip("safetensors.torch")

LARGE = [(50, 100), (4096,)]
SHAPES = [*LARGE, (4095,), (7, 3), (), (0, 5)]


def row(found: Memory, dtype: str, state: str, rounding: str = "") -> Row:
    (wanted,) = (r for r in found.rows if (r.dtype, r.state, r.rounding) == (dtype, state, rounding))
    return wanted


def parameters(dtype: Any) -> list[Any]:
    return [torch.nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in SHAPES]


# ---- against optimizers ---------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_numpys_states(name: str, state: Any) -> None:
    params = [np.ones(shape, np.float32) for shape in SHAPES]
    with kernels.using("numpy"):  # it has the same states, and compiles nothing
        optimizer = OPTIMIZERS[name](params, state=state)
    optimizer.step([np.ones(shape, np.float32) for shape in SHAPES])
    kept = [v for p in optimizer.state_dict()["parameters"].values() for v in p.values()]
    there = sum(v.nbytes for v in kept if isinstance(v, np.ndarray)) + SCALAR * sum(isinstance(v, float) for v in kept)
    # A Python integer; torch's SGD has one if random bits depend on it.
    counting = len(LARGE) * (state != "float32" and name == "momentum") if name in ("sgd", "momentum") else len(SHAPES)
    there += STEP * counting
    found = memory(params, name)
    has_none = name == "sgd"
    counted = row(found, "float32", "none" if has_none else state)
    assert counted.states == there
    assert counted.weights == counted.gradients == sum(p.nbytes for p in params)


@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan"])
@pytest.mark.parametrize("state", ["float32", "bfloat16", "8bit"])
@pytest.mark.parametrize("name", TORCH)
def test_torchs_states(name: str, state: Any, rounding: Any) -> None:
    import adamite.torch

    for dtype in ("bfloat16", "float32", "float16"):
        if rounding != "nearest" and dtype != "bfloat16":
            continue
        params = parameters(getattr(torch, dtype))
        options = {"lr": 0.1} | ({"momentum": 0.9} if name == "SGD" else {})
        optimizer = getattr(adamite.torch, name)(params, state=state, rounding=rounding, **options)
        for p in params:
            p.grad = torch.ones_like(p)
        with kernels.using("numpy"):
            optimizer.step()
        there = sum(v.nbytes for kept in optimizer.state.values() for v in kept.values())
        found = memory(params, "momentum" if name == "SGD" else name)
        shown_as = "" if dtype != "bfloat16" else "kahan" if rounding == "kahan" else "stochastic"
        counted = row(found, dtype, state, shown_as)
        if name == "SGD" and (dtype, rounding) == ("bfloat16", "nearest"):  # no random bits for the weights
            there += STEP * (len(SHAPES) - len(LARGE) * (state != "float32"))
        assert counted.states == there
        assert counted.weights == counted.gradients == sum(p.nbytes for p in params)
        if dtype == "float32":  # as if it were converted
            assert memory(parameters(torch.bfloat16), name).rows == memory(params, name, "bfloat16").rows


@pytest.mark.parametrize("dtype", ["float64", "complex64", "complex128"])
def test_wide_and_complex_tensors_of_torch(dtype: str) -> None:
    import adamite.torch

    params = parameters(getattr(torch, dtype))
    optimizer = adamite.torch.Adam(params)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    there = sum(v.nbytes for kept in optimizer.state.values() for v in kept.values())
    found = memory(params, "adam")
    assert {r.states for r in found.rows} == {there}
    assert {r.gradients for r in found.rows} == {sum(p.nbytes for p in params)}


def test_a_model_of_torch() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(100, 50), torch.nn.BatchNorm1d(50), torch.nn.Linear(50, 2))
    model[0].bias.requires_grad_(False)
    model[2].weight = torch.nn.Parameter(model[2].weight.bfloat16())
    found = memory(model, "lion")
    trained = [p for p in model.parameters() if p.requires_grad]
    every = [*model.parameters(), *model.buffers()]
    first = found.rows[0]
    assert first.dtype == "mixed" and found.tensors == 5
    assert first.weights == sum(t.nbytes for t in every)
    assert first.gradients == sum(p.nbytes for p in trained)
    assert first.states == sum(4 * p.numel() + STEP for p in trained)
    halved = memory(model, "lion", "bfloat16").rows[0]
    assert halved.weights == sum(2 * t.numel() if t.is_floating_point() else t.nbytes for t in every)
    tied = torch.nn.ModuleList([torch.nn.Linear(9, 9, bias=False)] * 2)
    assert memory(tied).parameters == 81
    state_dict = memory(dict(model.state_dict()))  # doesn't say what is trained or a buffer
    assert state_dict.rows[0].weights == first.weights and state_dict.parameters > found.parameters


def test_a_model_of_keras() -> None:
    done = python(
        """
        import keras, numpy as np, adamite, adamite.keras
        layers = keras.layers
        model = keras.Sequential([layers.Input((100,)), layers.Dense(50), layers.BatchNormalization()])
        for state in ("float32", "bfloat16", "8bit"):
            optimizer = adamite.keras.Adam(state=state)
            optimizer.build(model.trainable_variables)
            there = sum(v.value.nbytes for v in optimizer.variables[2:])
            row = next(r for r in adamite.memory(model, "adam").rows if (r.dtype, r.state) == ("float32", state))
            assert row.states == there + 4 * len(model.trainable_variables), (state, row, there)
            assert row.weights == 4 * model.count_params()
            assert row.gradients == sum(v.value.nbytes for v in model.trainable_variables)
        try:
            adamite.memory(keras.Sequential([keras.layers.Dense(3)]))
        except ValueError as error:
            print(error)
        """,
        KERAS_BACKEND="torch",
    )
    assert "memory: of 0 tensors none can be trained; give a built model" in done.stdout, done.stderr


def test_a_rule_of_ones_own() -> None:
    @adamite.rule
    def three(g: Any, a: Any, b: Any, c: Any, *, t: Any, lr: Any = 1e-3) -> Any:
        """Three averages.

        lr in [0, inf): the step.
        """
        a = 0.5 * a + g
        b = 0.9 * b + g
        c = 0.99 * c + a * b
        return lr * c, a, b, c

    found = memory({"w": [np.ones((10, 1000), np.float32)]}, three)
    assert [r.states for r in found.rows[:3]] == [120_000 + STEP, 60_000 + STEP, 3 * 40 * 257 + STEP]


# ---- files ----------------------------------------------------------------------------------------

TENSORS = {
    "a": torch.zeros(64, 100),
    "b": torch.zeros(5000, dtype=torch.bfloat16),
    "c": torch.zeros(3, dtype=torch.int64),
    "d": torch.zeros(4, dtype=torch.float8_e4m3fn),
    "e": torch.tensor(True),
    "f": torch.zeros(0),
    "g": torch.zeros(5, dtype=torch.complex64),
}


def test_a_file_is_counted_as_its_tensors_are(tmp_path: Path) -> None:
    st.save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    whole = memory(tmp_path / "model.safetensors")
    assert whole.rows == memory(TENSORS).rows
    assert whole.rows[0].weights == sum(t.nbytes for t in TENSORS.values())
    assert memory(str(tmp_path)) == whole
    split = tmp_path / "split"
    split.mkdir()
    names = {name: f"model-0000{1 + (name > 'b')}-of-00002.safetensors" for name in TENSORS}
    for file in set(names.values()):
        st.save_file({n: t for n, t in TENSORS.items() if names[n] == file}, split / file)
    assert memory(split) == whole
    (split / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    assert memory(split) == memory(split / "model.safetensors.index.json") == whole
    st.save_file(TENSORS, split / "all.safetensors")
    assert memory(split) == whole
    (split / "model.safetensors.index.json").unlink()
    with pytest.raises(ValueError, match=r"has \w twice, a second time in model-00001-of-00002.safetensors; name one"):
        memory(split)


def _file(header: Any, more: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + more


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED: list[tuple[str, bytes, str]] = [
    ("a.safetensors", b"", "isn't a whole .safetensors file: of 0 bytes its header takes 0"),
    ("a.safetensors", b"import torch\n", "isn't a whole .safetensors file"),
    ("a.safetensors", (2**63).to_bytes(8, "little") + b"{}", "isn't a whole .safetensors file"),
    ("a.safetensors", _file(b"\xff\xfe\x00"), "where JSON should be there is"),
    ("a.safetensors", _file(b"[" * 100_000), "where JSON should be there is"),
    ("a.safetensors", _file([1]), "its header is no dict"),
    ("a.safetensors", _file({"w": [1]}), "of w its header says"),
    ("a.safetensors", _file({"w": {**ENTRY, "data_offsets": [0]}}, bytes(8)), "of w its header says"),
    ("a.safetensors", _file({"w": {**ENTRY, "dtype": 3}}, bytes(8)), "of w its header says"),
    ("a.safetensors", _file({"w": {**ENTRY, "shape": [0.5]}}, bytes(8)), "of w its header says"),
    ("a.safetensors", _file({"w": {**ENTRY, "shape": ["2"]}}, bytes(8)), "of w its header says"),
    ("a.safetensors", _file({"w": ENTRY}, bytes(7)), "is cut off: w ends at byte 8 of 7"),
    ("a.safetensors", _file({}), "of 0 tensors none can be trained"),
    ("a.json", b"{}", "it has no weight_map of names"),
    ("a.json", b'{"weight_map": {"a": 1}}', "it has no weight_map of names"),
    ("a.json", b'{"weight_map": {"a": "gone.safetensors"}}', r"gone.safetensors can't be read: No such file"),
]


@pytest.mark.parametrize(("name", "content", "message"), DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_files_are_told(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        memory(tmp_path / name)


def test_no_tensor_is_read(tmp_path: Path) -> None:
    """A sparse file of 64 GB, of which only the header is written."""
    size = 2**36
    header = _file({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}})
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(header)
        try:
            file.truncate(len(header) + size)
        except OSError:
            pytest.skip("no file of this size here")
    assert memory(path).rows[0].weights == size


# ---- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "memory takes a model, or arrays and tensors in any nesting; got 3 in it"),
        (({"w": "x"},), TypeError, "got 'x' in it"),
        (([],), ValueError, "of 0 tensors none can be trained"),
        ((np.ones(3, np.int32),), ValueError, "of 1 tensor none can be trained"),
        ((np.ones(3, np.float32), "adm"), ValueError, "did you mean adam"),
        ((np.ones(3, np.float32), 3), TypeError, "takes a rule"),
        ((np.ones(3, np.float32), "adam", "int8"), ValueError, "dtype must be one of 'float32', .* got 'int8'"),
        (("nowhere.safetensors",), ValueError, "nowhere.safetensors can't be read: No such file"),
    ],
)
def test_mistakes_are_told(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        memory(*arguments)


def test_sizes_in_words() -> None:
    sizes = [0, 7, 999, 1000, 1234, 99_949, 999_499, 999_500, 28_400_000, 10**9, 15 * 10**12, 10**17]
    words = ["0 B", "7 B", "999 B", "1.00 kB", "1.23 kB", "99.9 kB", "999 kB", "1.00 MB", "28.4 MB", "1.00 GB"]
    assert [shown(size) for size in sizes] == [*words, "15.0 TB", "100000 TB"]


def test_the_verdict() -> None:
    assert memory(np.ones(3), "sgd").verdict == "There is no smaller choice than the first."
    found = memory(np.ones((100, 100), np.float32), "adam")
    least = min(r.total for r in found.rows)
    share = 100 - 100 * least / found.rows[0].total
    assert f"({share:.0f}%): bfloat16, stochastic, 8bit." in found.verdict


# ---- the command ----------------------------------------------------------------------------------

MINE = '''
import numpy as np

import adamite


def model():
    return {"w": np.zeros((784, 1000), np.float32), "b": np.zeros(1000, np.float32)}


def number():
    return 3


def size(n):
    return np.zeros(n)


def layers():
    yield "a layer"


class Net:
    def __init__(self, width):
        self.trainable_variables = self.variables = []


@adamite.rule
def heavy(g, m, *, t, lr=1e-3):
    """lr in [0, inf): the step."""
    m = 0.9 * m + g
    return lr * m, m
'''


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("mine") / "mine.py"
    path.write_text(MINE, encoding="utf-8")
    return str(path)


def test_the_table(mine: str, tmp_path: Path) -> None:
    st.save_file({"w": torch.zeros(784, 1000), "b": torch.zeros(1000)}, tmp_path / "m.safetensors")
    result = command("memory", str(tmp_path / "m.safetensors"), COLUMNS="80")
    assert result.returncode == 0, result.stderr
    assert result.stdout == command("memory", f"{mine}:model", COLUMNS="80").stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "AdamW: 785,000 parameters in 2 tensors" in result.stdout
    cells = [line.split() for line in result.stdout.splitlines() if re.search(r"\d B|B ", line)]
    assert [line[:2] for line in cells[:3]] == [["float32", s] for s in ("float32", "bfloat16", "8bit")]
    found = memory(tmp_path / "m.safetensors")
    assert all(" ".join(row).split() in cells for row in found.cells)
    assert result.stdout.splitlines()[-1] == found.verdict


def test_its_numbers_are_whole_on_a_narrow_screen(mine: str) -> None:
    printed = command("memory", f"{mine}:model", COLUMNS="60").stdout
    assert max(map(len, printed.splitlines())) <= 60 and "…" not in printed
    for row in memory({"w": np.zeros((784, 1000), np.float32), "b": np.zeros(1000, np.float32)}).rows:
        assert re.search(rf"{row.state} .*{shown(row.total)}", printed)


def test_its_options(mine: str) -> None:
    for dtype in DTYPES:
        result = command("memory", f"{mine}:model", "--dtype", dtype, "--optimizer", f"{mine}:heavy")
        assert result.returncode == 0, result.stderr
        kinds = {line.split()[0] for line in result.stdout.splitlines() if re.match(r" *b?float", line)}
        assert kinds == {dtype}


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("nothing", [], "nothing can't be read: No such file"),
        ("{mine}", [], "mine.py' doesn't say what of it; write module:name, or path/to/file.py:name"),
        ("{mine}:nothing", [], "has no nothing"),
        ("nothing.py:model", [], "there is no file nothing.py"),
        ("nomodule:model", [], "there is no module nomodule"),
        ("", [], "'MODEL': it is empty; give a .safetensors file"),
        (
            "{mine}:number",
            [],
            "line 11 of {mine}: `def number():`: memory takes a model, or arrays and tensors in any "
            "nesting; got 3 in it",
        ),
        (
            "{mine}:layers",
            [],
            "line 19 of {mine}: `def layers():`: memory takes a model, or arrays and tensors in any "
            "nesting; got 'a layer' in it; write return, not yield",
        ),
        (
            "{mine}:size",
            [],
            "line 15 of {mine}: `def size(n):`: a function that returns a model is called without "
            "arguments: missing a required argument: 'n'",
        ),
        (
            "{mine}:Net",
            [],
            "line 23 of {mine}: `class Net:`: a function that returns a model is called without "
            "arguments: missing a required argument: 'width'",
        ),
        ("{mine}:model", ["--optimizer", "adm"], "did you mean adam?\nAll of them: adamite list"),
        ("{mine}:model", ["--optimizer", "{mine}:model"], "not a rule"),
        ("{mine}:model", ["--dtype", "int8"], "'int8'; give float32, bfloat16, float16 or float64"),
    ],
)
def test_wrong_input_is_answered_in_words(model: str, options: list[str], said: str, mine: str) -> None:
    result = command("memory", *(word.format(mine=mine) for word in (model, *options)), COLUMNS="500")
    assert result.returncode == 2
    assert said.format(mine=mine) in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
    assert len(result.stderr.partition("Error: ")[2].splitlines()) == said.count("\n") + 1


def test_the_output_of_the_page(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(# gpt2.py\n.*?)```", page, re.DOTALL)
    ((arguments, printed),) = re.findall(r"```\n\$ adamite (.*?)\n(.*?)```", page, re.DOTALL)
    (tmp_path / "gpt2.py").write_text(code, encoding="utf-8")
    command_, where = arguments.split()
    result = command(command_, f"{tmp_path}/{where}", COLUMNS="80")
    assert [line.rstrip() for line in result.stdout.splitlines()] == printed.splitlines(), result.stderr
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = re.search(r"GPT-2's size.*?\n\n(.*?)\n\n", readme, re.DOTALL)
    assert table
    rows = [line.strip("| ").split(" | ") for line in table[1].splitlines()[2:]]
    assert len(rows) == 5
    spec = importlib.util.spec_from_file_location("gpt2", tmp_path / "gpt2.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = memory(module.model())
    for kind, state, both, states, total in rows:
        dtype, _, rounding = kind.partition(", ")
        counted = row(found, dtype, state, rounding)
        sizes = map(shown, (counted.weights + counted.gradients, counted.states, counted.total))
        assert [both, states, total] == [*sizes]
