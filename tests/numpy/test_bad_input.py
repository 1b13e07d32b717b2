"""Bad input: one clear error, and everything as it was before.

Each row says what is done, the exact error, and what its message must contain.
"""

import copy
import re
from typing import Any

import numpy as np
import pytest

import adamite
from adamite import schedules
from adamite.errors import NonFiniteError, RuleError, StateDictError
from tests.support import python


def noise(shape, seed=0, dtype=np.float64):
    return np.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def bits(node):
    """A nesting with its arrays as bytes: equal where nothing has changed, to the last bit."""
    if isinstance(node, np.ndarray):
        return node.shape, node.dtype.str, np.ascontiguousarray(node).tobytes()
    if isinstance(node, dict):
        return {k: bits(v) for k, v in node.items()}
    return [bits(v) for v in node] if isinstance(node, list | tuple) else repr(node)


def has(error, *words):
    """The message says all this."""
    text = str(error.value)
    missing = [w for w in words if not re.search(w, text)]
    assert not missing, f"{missing} not in: {text}"
    assert "\n\n" not in text and "object at 0x" not in text


def fresh():
    return {
        "w": noise((2, 3)),
        "b": [noise(4, 1, np.float32)],
        "s": noise((), 2),
        "view": np.zeros((6, 4))[::2, 1:],
    }


def grads(k=0):
    return {
        "w": noise((2, 3), 10 + k),
        "b": [noise(4, 20 + k, np.float32)],
        "s": noise((), 30 + k),
        "view": noise((3, 3), 40 + k),
    }


class Scene:
    """An optimizer in the middle of a training, and a twin that never meets the bad input."""

    def __init__(self, cls=adamite.AdamW, **options):
        self.params, self.plain = fresh(), fresh()
        self.opt, self.twin = cls(self.params, **options), cls(self.plain, **options)
        for k in range(3):
            self.step(k, w=None if k == 1 else grads(k)["w"])  # unequal step numbers
        self.before = self.now()

    def step(self, k, **other):
        self.opt.step({**grads(k), **other}), self.twin.step({**grads(k), **other})

    def now(self):
        return bits(self.opt.state_dict()), bits(self.params), self.opt.steps, self.opt.skipped

    def unchanged(self):
        assert self.now() == self.before
        for k in range(3, 5):
            self.step(k)
        assert bits(self.params) == bits(self.plain)
        assert bits(self.opt.state_dict()) == bits(self.twin.state_dict())


# ---- gradients ------------------------------------------------------------------------------------


def but(**changed):
    return lambda p: {**grads(3), **changed}


def without(key):
    return lambda p: {k: v for k, v in grads(3).items() if k != key}


GRADIENTS: dict[str, Any] = {
    "no dict": (lambda p: noise((2, 3)), ValueError, ["top", "a dict", "'w'", "got ndarray"]),
    "a list": (lambda p: list(grads().values()), ValueError, ["a dict", "got a list of 4"]),
    "None for a branch": (but(b=None), ValueError, ["'b'", "a list or tuple of 1", "NoneType"]),
    "None for all": (lambda p: None, ValueError, ["a dict", "NoneType"]),
    "missing": (without("s"), ValueError, ["missing 's'"]),
    "extra": (but(z=noise(1)), ValueError, ["unknown 'z'"]),
    "renamed": (lambda p: {**without("s")(p), "S": noise(())}, ValueError, ["missing 's'", "'S'"]),
    "longer": (but(b=[noise(4, 0, np.float32)] * 2), ValueError, ["'b'", "of 1", "got a list of 2"]),
    "shorter": (but(b=[]), ValueError, ["'b'", "of 1", "got a list of 0"]),
    "array for a list": (but(b=noise((1, 4), 0, np.float32)), ValueError, ["'b'", "got ndarray"]),
    "dict for a list": (but(b={0: noise(4)}), ValueError, ["'b'", "list", "got a dict"]),
    "shape": (but(w=noise((3, 2))), ValueError, ["'w'", r"\(2, 3\)", r"\(3, 2\)"]),
    "flat": (but(w=noise(6)), ValueError, ["'w'", r"\(2, 3\)", r"\(6,\)"]),
    "broadcastable": (but(w=noise(3)), ValueError, ["'w'", r"\(2, 3\)", r"\(3,\)"]),
    "1-element for 0-d": (but(s=noise(1)), ValueError, ["'s'", r"\(\)", r"\(1,\)"]),
    "0-d for an array": (but(w=np.float64(1)), (TypeError, ValueError), ["'w'"]),
    "number for an array": (but(w=1.0), TypeError, ["'w'", "array", "float"]),
    "list of numbers": (but(w=[[1.0] * 3] * 2), TypeError, ["'w'", "array", "list"]),
    "integers": (but(w=np.ones((2, 3), int)), TypeError, ["'w'", "float64", "int64", "astype"]),
    "bool": (but(w=np.ones((2, 3), bool)), TypeError, ["'w'", "float64", "bool", "astype"]),
    "float32": (but(w=noise((2, 3), 0, np.float32)), TypeError, ["'w'", "float64", "float32"]),
    "float64": (but(b=[noise(4)]), TypeError, [r"'b\.0'", "float32", "float64", "astype"]),
    "float16": (but(w=noise((2, 3), 0, np.float16)), TypeError, ["'w'", "float64", "float16"]),
    "complex": (but(w=noise((2, 3)) * 1j), TypeError, ["'w'", "float64", "complex128"]),
    "object": (but(w=noise((2, 3)).astype(object)), TypeError, ["'w'", "float64", "object"]),
    "byte order": (but(w=noise((2, 3), 0, ">f8")), TypeError, ["'w'", "float64", ">f8"]),
    "str": (but(w="g"), TypeError, ["'w'", "array", "str"]),
    "int for 0-d": (but(s=1), TypeError, ["'s'", "int"]),
    "bool for 0-d": (but(s=True), TypeError, ["'s'", "bool"]),
    "float32 scalar for 0-d": (but(s=np.float32(1)), TypeError, ["'s'", "float64", "float32"]),
    "masked": (but(w=np.ma.masked_array(noise((2, 3)), True)), TypeError, ["'w'", "MaskedArray"]),
    "its own, reversed": (
        lambda p: {**grads(3), "view": p["view"][:, ::-1]},
        ValueError,
        ["gradient of 'view'", "shares memory", "parameter 'view'", "copy"],
    ),
    "parts of another": (
        lambda p: {**grads(3), "s": p["w"][1, 1:2].reshape(())},
        ValueError,
        ["gradient of 's'", "shares memory", "parameter 'w'", "copy"],
    ),
    "its own, shifted": (
        lambda p: {**grads(3), "view": p["view"].base[0:3, 1:]},
        ValueError,
        ["gradient of 'view'", "shares memory", "parameter 'view'", "copy"],
    ),
    "its own, transposed": (
        lambda p: {**grads(3), "view": p["view"].T},
        ValueError,
        ["gradient of 'view'", "shares memory", "parameter 'view'", "copy"],
    ),
}


@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0, "ema": 0.9}], ids=["plain", "clipped"])
@pytest.mark.parametrize("case", GRADIENTS)
def test_gradients(case, options):
    bad, kind, words = GRADIENTS[case]
    scene = Scene(**options)
    with pytest.raises(kind) as error:
        scene.opt.step(bad(scene.params))
    assert error.type in (kind if isinstance(kind, tuple) else (kind,))
    has(error, *words)
    scene.unchanged()


def test_a_gradient_in_a_state():
    scene = Scene()
    state = scene.opt._slots[0].states["m"]
    with pytest.raises(ValueError) as error:
        scene.opt.step({**grads(3), "w": state})
    has(error, "gradient of 'w'", "shares memory", "state m of 'w'", "copy")
    scene.unchanged()


def test_overlaps_are_found_though_the_address_is_as_before():
    memory = np.zeros(30)
    x = memory[20:]
    opt = adamite.SGD(x)
    opt.step(memory[0:20:2])
    before = bits(x)
    for bad in (memory[0:30:3], memory[11:21], memory[19:29]):
        with pytest.raises(ValueError, match="shares memory"):
            opt.step(bad)
    assert bits(x) == before and opt.steps == 1
    opt.step(memory[0:20:2])


def test_a_parameter_that_became_read_only():
    scene = Scene()
    scene.params["w"].flags.writeable = False
    with pytest.raises(ValueError) as error:
        scene.opt.step(grads(3))
    has(error, "'w'", "read-only", "writeable")
    scene.params["w"].flags.writeable = True
    scene.unchanged()


def test_averages_of_a_read_only_parameter_are_not_half_swapped():
    scene = Scene(ema=0.9)
    scene.params["s"].flags.writeable = False
    with pytest.raises(ValueError, match="read-only"), scene.opt.averaged():
        raise AssertionError
    scene.params["s"].flags.writeable = True
    scene.unchanged()


@pytest.mark.parametrize("change", ["x.resize(10, refcheck=False)", "x.resize(5000, refcheck=False)"])
def test_a_parameter_resized_in_place(change):
    code = f"""
import numpy as np, adamite
x = np.arange(1000.0)
opt = adamite.SGD(x, lr=1.0)
opt.step(np.zeros(1000))
{change}
kept = x.copy()
try:
    opt.step(np.ones(1000))
except ValueError as error:
    assert "'x'" in str(error) and "(1000,)" in str(error) and str(x.shape) in str(error), error
    assert (x == kept).all() and opt.steps == 1
else:
    raise AssertionError("stepped past the end")
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


# ---- parameters -----------------------------------------------------------------------------------

base = np.zeros(12)
locked = np.zeros(3)
locked.flags.writeable = False
PARAMETERS: dict[str, Any] = {
    "float": (1.0, TypeError, ["'x'", "NumPy array", "float", r"np\.array"]),
    "NumPy scalar": (np.float64(1), TypeError, ["'x'", "NumPy array", "float64", r"np\.array"]),
    "list of floats": ([1.0, 2.0], TypeError, ["'0'", "NumPy array", "float", r"np\.array"]),
    "float in a dict": ({"w": 1.0}, TypeError, ["'w'", "NumPy array", "float"]),
    "None": (None, TypeError, ["'x'", "NumPy array", "NoneType"]),
    "str": ({"w": "x"}, TypeError, ["'w'", "NumPy array", "str"]),
    "set": ({1, 2}, TypeError, ["NumPy array", "set"]),
    "generator": ((np.zeros(1) for _ in "ab"), TypeError, ["NumPy array", "generator"]),
    "integers": (np.zeros(3, int), TypeError, ["'x'", "float32 or float64", "int64", "astype"]),
    "bool": (np.zeros(3, bool), TypeError, ["'x'", "float32 or float64", "bool"]),
    "float16": (np.zeros(3, np.float16), TypeError, ["'x'", "float32 or float64", "float16"]),
    "longdouble": ([np.zeros(3, np.longdouble)], TypeError, ["'0'", "float32 or float64"]),
    "complex": (np.zeros(3, complex), TypeError, ["'x'", "float32 or float64", "complex128"]),
    "object": (np.zeros(3, object), TypeError, ["'x'", "float32 or float64", "object"]),
    "byte order": (np.zeros(3, ">f4"), TypeError, ["'x'", "float32 or float64", ">f4"]),
    "masked": (np.ma.zeros(3), TypeError, ["'x'", "MaskedArray"]),
    "read-only": (locked, ValueError, ["'x'", "read-only", "copy"]),
    "broadcast": (np.broadcast_to(1.0, (3,)), ValueError, ["'x'", "copy"]),
    "itself": (
        np.lib.stride_tricks.as_strided(base, (3, 3), (8, 8)),
        ValueError,
        ["'x'", "share memory", "copy"],
    ),
    "writeable broadcast": (
        np.lib.stride_tricks.as_strided(base, (4, 3), (0, 8)),
        ValueError,
        ["'x'", "share memory", "copy"],
    ),
    "the same twice": ({"a": base, "b": base}, ValueError, ["'a'", "'b'", "share memory"]),
    "overlap": ([base[:7], base[6:]], ValueError, ["'0'", "'1'", "share memory"]),
    "view": ({"a": base, "b": [base.reshape(3, 4).T]}, ValueError, ["'a'", r"'b\.0'", "share memory"]),
    "interleaved overlap": ([base[::2], base[::3]], ValueError, ["'0'", "'1'", "share memory"]),
    "empty": ({}, ValueError, ["no parameters"]),
    "empty nest": ({"a": [], "b": ()}, ValueError, ["no parameters"]),
    "names": ({"a.b": base[:3], "a": {"b": base[3:]}}, ValueError, [r"'a\.b'", "dot"]),
    "keys": ({1: base[:3], "1": base[3:]}, ValueError, ["'1'"]),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters(case):
    params, kind, words = PARAMETERS[case]
    with pytest.raises(kind) as error:
        adamite.Adam(params)
    assert error.type is kind
    has(error, *words)


@pytest.mark.parametrize(
    "params",
    [
        [base[:6], base[6:]],
        [base[::2], base[1::2]],
        [base.reshape(3, 4)[:, :2], base.reshape(3, 4)[:, 2:]],
        [base[:0], base, base[3:3]],
    ],
)
def test_neighbours_do_not_overlap(params):
    opt = adamite.SGD(params, lr=1.0)
    opt.step([np.ones_like(p) for p in params])
    assert all((p == p.flat[0]).all() for p in params if p.size)


# ---- hyperparameters ------------------------------------------------------------------------------

RANGE = r"\[0, inf\)"
NUMBERS: dict[str, Any] = {
    "negative": ("lr", -0.1, ValueError, ["lr", RANGE, "-0.1"]),
    "nan": ("lr", float("nan"), ValueError, ["lr", RANGE, "nan"]),
    "inf": ("lr", float("inf"), ValueError, ["lr", RANGE, "inf"]),
    "bool": ("lr", True, TypeError, ["lr", RANGE, "True", "schedule"]),
    "np.bool": ("lr", np.True_, TypeError, ["lr", RANGE, "True"]),
    "str": ("lr", "0.1", TypeError, ["lr", RANGE, "'0.1'", "str"]),
    "None": ("lr", None, TypeError, ["lr", RANGE, "None"]),
    "complex": ("lr", 1j, TypeError, ["lr", RANGE, "1j", "complex"]),
    "list": ("lr", [0.1], TypeError, ["lr", RANGE, r"\[0.1\]", "list"]),
    "array": ("lr", np.array([0.1, 0.2]), TypeError, ["lr", RANGE, r"array\(\[0.1, 0.2\]\)"]),
    "1-element array": ("lr", np.array([0.1]), TypeError, ["lr", RANGE, "array"]),
    "dict": ("lr", {}, TypeError, ["lr", RANGE, r"\{\}", "dict"]),
    "huge int": ("lr", 10**400, ValueError, ["lr", RANGE]),
    "beta 1": ("beta1", 1.0, ValueError, ["beta1", r"\[0, 1\)", "1.0"]),
    "beta int": ("beta2", 1, ValueError, ["beta2", r"\[0, 1\)", "got 1"]),
    "beta above": ("beta2", 1.5, ValueError, ["beta2", r"\[0, 1\)", "1.5"]),
    "eps 0": ("eps", 0, ValueError, ["eps", r"\(0, inf\)", "0"]),
    "eps tiny": ("eps", 1e-50, ValueError, ["eps", "1e-50", "float32", "1.2e-38", "float64"]),
    "lr huge": ("lr", 1e39, ValueError, ["lr", r"1e\+39", "float32", r"3.4e\+38", "float64"]),
    "decay": ("weight_decay", -1, ValueError, ["weight_decay", RANGE, "-1"]),
    "decay bool": ("weight_decay", False, TypeError, ["weight_decay", RANGE, "False"]),
    "decay str": ("weight_decay", "l2", TypeError, ["weight_decay", RANGE, "'l2'"]),
    "clip 0": ("clip_norm", 0.0, ValueError, ["clip_norm", r"\(0, inf\)", "0.0"]),
    "clip str": ("clip_norm", "1", TypeError, ["clip_norm", r"\(0, inf\)", "'1'"]),
    "ema 1": ("ema", 1.0, ValueError, ["ema", r"\[0, 1\)", "1.0"]),
    "ema str": ("ema", "x", TypeError, ["ema", r"\[0, 1\)", "'x'"]),
    "schedule of str": ("lr", lambda step: "0.1", TypeError, ["lr", RANGE, "'0.1'", "step 0"]),
    "schedule of None": ("lr", lambda step: None, TypeError, ["lr", RANGE, "None", "step 0"]),
    "schedule below 0": ("lr", lambda step: -1.0, ValueError, ["lr", RANGE, "-1.0", "step 0"]),
    "schedule not made": ("lr", schedules.cosine, TypeError, ["cosine", "steps"]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_hyperparameters_when_made(case):
    name, value, kind, words = NUMBERS[case]
    params = fresh()
    with pytest.raises(kind) as error:
        adamite.AdamW(params, **{"ema": 0.5, name: value})
    assert error.type is kind
    has(error, *words)
    assert bits(params) == bits(fresh())


@pytest.mark.parametrize("case", NUMBERS)
def test_hyperparameters_when_assigned(case):
    name, value, kind, words = NUMBERS[case]
    scene = Scene(ema=0.5, groups={"w": {"lr": 0.1}})
    for owner in (scene.opt, scene.opt.groups["w"]):
        kept = getattr(owner, name)
        with pytest.raises(ValueError if (name, owner is scene.opt) == ("clip_norm", False) else kind) as error:
            setattr(owner, name, value)
        if (name, owner is scene.opt) != ("clip_norm", False):
            has(error, *words)
        assert getattr(owner, name) == kept
    scene.unchanged()


@pytest.mark.parametrize(
    ("name", "late", "kind", "words"),
    [
        ("lr", -1.0, ValueError, ["lr", RANGE, "-1.0", "step 3"]),
        ("lr", float("nan"), ValueError, ["lr", RANGE, "nan", "step 3"]),
        ("lr", None, TypeError, ["lr", RANGE, "None", "step 3"]),
        ("eps", 1e-50, ValueError, ["eps", "1e-50", "float32", "step 3"]),
        ("beta2", 1.0, ValueError, ["beta2", r"\[0, 1\)", "1.0", "step 3"]),
        ("weight_decay", 1e39, ValueError, ["weight_decay", "float32", "step 3"]),
        ("ema", 1.0, ValueError, ["ema", r"\[0, 1\)", "1.0", "step 3"]),
        ("clip_norm", 0.0, ValueError, ["clip_norm", r"\(0, inf\)", "0.0", "step 3"]),
    ],
)
@pytest.mark.parametrize("group", [False, True])
def test_a_schedule_that_leaves_its_range_in_the_middle(name, late, kind, words, group):
    group = group and name != "clip_norm"  # which is the optimizer's alone
    first = {"ema": 0.5, "clip_norm": 1.0}.get(name, 0.1)
    broken = [True]

    def schedule(step):
        return late if step == 3 and broken[0] else first

    options = {"groups": {"view": {name: schedule}}} if group else {name: schedule}
    scene = Scene(**({"ema": 0.5} | options if name == "ema" else options))
    for _ in range(2):
        with pytest.raises(kind) as error:
            scene.opt.step(grads(3))
        has(error, *words)
    broken[0] = False
    scene.unchanged()


def test_a_schedule_that_raises_in_the_middle():
    broken = [True]
    scene = Scene(lr=lambda step: 0.1 / (0 if step == 3 and broken[0] else 1))
    with pytest.raises(ZeroDivisionError):
        scene.opt.step(grads(3))
    broken[0] = False
    scene.unchanged()


@pytest.mark.parametrize("cls", [adamite.Adam, adamite.RMSprop, adamite.Adagrad])
def test_small_numbers_are_good_for_float64(cls):
    x = np.zeros(3)
    opt = cls(x, eps=1e-50)
    opt.step(np.ones(3))
    assert np.isfinite(x).all()
    with pytest.raises(ValueError, match="float32"):
        cls(x.astype(np.float32), eps=1e-50)


# ---- arguments ------------------------------------------------------------------------------------

ARGUMENTS: dict[str, Any] = {
    "unknown": (adamite.Adam, {"learning_rate": 0.1}, TypeError, ["Adam", "'learning_rate'", "lr"]),
    "a slip": (adamite.Adam, {"beta_1": 0.1}, TypeError, ["'beta_1'", "mean '?beta1'?\\?"]),
    "of another": (adamite.Adam, {"momentum": 0.9}, TypeError, ["Adam", "'momentum'"]),
    "convention": (adamite.Adam, {"convention": "jax"}, ValueError, ["paper, torch, keras, optax", "'jax'"]),
    "convention type": (adamite.Adam, {"convention": []}, (TypeError, ValueError), ["convention"]),
    "lr is required": (adamite.Adam, {"convention": "optax"}, TypeError, ["lr", "required", "lr="]),
    "decay": (adamite.Adam, {"decay": "L2"}, ValueError, ["decay", "'l2'", "'decoupled'", "'L2'"]),
    "kind of decay": (adamite.Adam, {"weight_decay": 0.1}, ValueError, ["weight.decay", "decoupled", "l2"]),
    "maximize": (adamite.Adam, {"maximize": 1}, TypeError, ["maximize", "True or False", "1"]),
    "nonfinite": (adamite.Adam, {"nonfinite": "ignore"}, ValueError, ["propagate, raise, skip", "'ignore'"]),
    "nonfinite type": (adamite.Adam, {"nonfinite": None}, ValueError, ["propagate, raise, skip", "None"]),
    "idle dampening": (adamite.SGD, {"dampening": 0.5}, ValueError, ["dampening", "no effect", "0.5"]),
    "idle nesterov": (adamite.SGD, {"nesterov": True}, ValueError, ["nesterov", "no effect", "True"]),
    "choice": (adamite.SGD, {"momentum": 0.9, "nesterov": 1}, ValueError, ["nesterov", "False, True", "1"]),
    "choice None": (adamite.SGD, {"momentum": 0.9, "nesterov": None}, ValueError, ["nesterov", "None"]),
    "choice str": (adamite.RMSprop, {"centered": "yes"}, ValueError, ["centered", "False, True", "'yes'"]),
    "no lr": (None, {"lr": 0.1}, TypeError, ["'lr'", "rate"]),
    "no lr, decay": (None, {"weight_decay": 0.1}, ValueError, ["decay", "=.l2"]),
    "no lr, decoupled": (None, {"decay": "decoupled"}, ValueError, ["decoupled", "lr"]),
    "three positional": (adamite.Adam, None, TypeError, ["positional"]),
}


@adamite.rule
def plain(g, *, t, rate=0.1):
    """A rule that calls its learning rate otherwise."""
    return rate * g


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(case):
    cls, given, kind, words = ARGUMENTS[case]
    params = fresh()
    with pytest.raises(kind) as error:
        (cls or adamite.optimizer(plain))(params, *([] if given is not None else [0.1, 0.9]), **given or {})
    has(error, *words)
    assert bits(params) == bits(fresh())


SENTENCES = [
    lambda: adamite.optimizer("adam")(np.zeros(2), learning_rate=1),
    lambda: adamite.optimizer("adam")(np.zeros(2), beta_1=1),
    lambda: adamite.optimizer("gradient"),
    lambda: adamite.Adam(np.zeros(2)).momentum,
]


@pytest.mark.parametrize("do", SENTENCES)
def test_sentences_are_ended(do):
    with pytest.raises((TypeError, ValueError, AttributeError)) as error:
        do()
    assert re.search(r"'\w+'(\?|\.|;.*\?) It takes ", str(error.value)), str(error.value)


FIXED: dict[str, Any] = {
    "choice": (adamite.Momentum, "nesterov", True, AttributeError, ["nesterov", "new optimizer"]),
    "None to number": (adamite.SGD, "momentum", 0.9, ValueError, ["momentum", "None", "new optimizer"]),
    "number to None": (adamite.Momentum, "momentum", None, ValueError, ["momentum", "None", "new optimizer"]),
    "average": (adamite.Adam, "ema", 0.9, AttributeError, ["ema", "new optimizer"]),
    "start of a state": (adamite.Adagrad, "s0", 0.5, AttributeError, ["s0", "new optimizer"]),
    "unknown": (adamite.Adam, "learning_rate", 0.1, AttributeError, ["'learning_rate'", "lr"]),
    "a slip": (adamite.Adam, "beta3", 0.1, AttributeError, ["'beta3'", "mean '?beta[12]'?\\?"]),
    "a method": (adamite.Adam, "step", 3, AttributeError, ["'step'"]),
    "a property": (adamite.Adam, "steps", 3, AttributeError, ["steps"]),
    "maximize": (adamite.Adam, "maximize", True, AttributeError, ["maximize"]),
    "decay": (adamite.Adam, "weight_decay", 0.1, ValueError, ["weight.decay", "decoupled", "l2"]),
    "nonfinite": (adamite.Adam, "nonfinite", "stop", ValueError, ["propagate, raise, skip", "'stop'"]),
}


@pytest.mark.parametrize("case", FIXED)
def test_what_is_fixed_stays(case):
    cls, name, value, kind, words = FIXED[case]
    scene = Scene(cls)
    with pytest.raises(kind) as error:
        setattr(scene.opt, name, value)
    assert error.type is kind
    has(error, *words)
    scene.unchanged()


def test_reading_what_is_not_there():
    opt = adamite.Adam(np.zeros(2))
    with pytest.raises(AttributeError, match=r"mean '?beta1'?\?"):
        _ = opt.betas1
    with pytest.raises((AttributeError, TypeError), match="'nope'"):
        opt.schedule("nope")
    assert not hasattr(opt, "nope") and not hasattr(opt, "_nope")
    with pytest.raises(ValueError, match="ema="), opt.averaged():
        pass


GROUPS: dict[str, Any] = {
    "a list": ([{"params": "w", "lr": 0.1}], TypeError, ["groups", "dict", "list"]),
    "no match": ({"W*": {"lr": 0.1}}, ValueError, [r"'W\*'", "matches no parameter", "'?w'?"]),
    "two match": ({"w": {"lr": 0.1}, "[vw]*": {"lr": 1}}, ValueError, ["'w'", r"'\[vw\]\*'", "two groups"]),
    "no dict": ({"w": 0.1}, TypeError, ["'w'", "dict", "0.1"]),
    "a number": ({0: {"lr": 0.1}}, TypeError, ["group", "0", "str"]),
    "unknown": ({"w": {"rate": 0.1}}, TypeError, ["'w'", "'rate'", "lr"]),
    "a slip": ({"w": {"beta_1": 0.1}}, TypeError, ["'w'", "'beta_1'", "mean '?beta1'?\\?"]),
    "clip_norm": ({"w": {"clip_norm": 1.0}}, ValueError, ["clip_norm", "whole optimizer"]),
    "choice": ({"w": {"maximize": True}}, TypeError, ["'w'", "'maximize'"]),
    "range": ({"w": {"lr": -1}}, ValueError, ["'w'", "lr", RANGE, "-1"]),
    "type": ({"w": {"beta1": "x"}}, TypeError, ["'w'", "beta1", "'x'"]),
    "rounded": ({"b.*": {"eps": 1e-50}}, ValueError, [r"'b\.\*'", "eps", "1e-50", "float32"]),
    "None": ({"w": {"lr": None}}, TypeError, ["'w'", "lr", "None"]),
    "schedule": ({"w": {"lr": lambda step: -1}}, ValueError, ["'w'", "lr", RANGE, "-1"]),
}


@pytest.mark.parametrize("case", GROUPS)
def test_groups(case):
    groups, kind, words = GROUPS[case]
    params = fresh()
    with pytest.raises(kind) as error:
        adamite.AdamW(params, groups=groups)
    assert error.type is kind
    has(error, *words)
    assert bits(params) == bits(fresh())


@pytest.mark.parametrize("bad", [3, "SGDD", "gradient", None, adamite.Adam, lambda g, *, t: g])
def test_optimizer_of_no_rule(bad):
    with pytest.raises(ValueError if isinstance(bad, str) else TypeError) as error:
        adamite.optimizer(bad)
    has(error, "did you mean '?sgd'?\\?" if bad == "SGDD" else "rule|optimizer")


# ---- the environment ------------------------------------------------------------------------------


def both():
    """A small float32 tensor and a float64 one that is large enough for threads."""
    return {"small": np.ones(5, np.float32), "large": np.ones(2**20)}


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²", "1 2"])
def test_threads_of_the_environment(value, monkeypatch):
    params = both()
    monkeypatch.setenv("ADAMITE_BACKEND", "llvm")
    opt = adamite.SGD(params)
    monkeypatch.setenv("ADAMITE_THREADS", value)
    with pytest.raises(ValueError) as error:
        opt.step(both())
    has(error, "ADAMITE_THREADS", "at least 1", re.escape(repr(value)))
    assert bits(params) == bits(both()) and opt.steps == 0
    monkeypatch.setenv("ADAMITE_THREADS", "2")
    opt.step(both())
    assert all((p == p.dtype.type(1) - p.dtype.type(0.01)).all() for p in params.values())


def test_backend_of_the_environment(monkeypatch):
    monkeypatch.setenv("ADAMITE_BACKEND", "cuda")
    x = np.ones(3)
    with pytest.raises(ValueError) as error:
        adamite.SGD(x).step(np.ones(3))
    has(error, "ADAMITE_BACKEND", "llvm or numpy", "'cuda'")
    assert (x == 1).all()


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", True])
def test_set_threads(count):
    before = adamite.threads()
    with pytest.raises((ValueError, TypeError)) as error:
        adamite.set_threads(count)
    has(error, "at least 1", re.escape(repr(count)))
    assert adamite.threads() == before


# ---- state dicts ----------------------------------------------------------------------------------


def change(*path, to):
    def mutate(state):
        *before, last = path
        node = state
        for key in before:
            node = node[key]
        node[last] = to(node[last]) if callable(to) else to
        return state

    return mutate


def drop(*path):
    def mutate(state):
        *before, last = path
        node = state
        for key in before:
            node = node[key]
        del node[last]
        return state

    return mutate


def of(cls, **options):
    return lambda state: cls(fresh(), **options).state_dict()


W = ("parameters", "w")
STATES: dict[str, Any] = {
    "not a dict": (lambda s: [s], ["a state dict is a dict|expected a dict", "list"]),
    "None": (lambda s: None, ["dict", "NoneType"]),
    "empty": (lambda s: {}, ["missing", "'parameters'", "'rule'"]),
    "missing key": (drop("steps"), ["missing 'steps'"]),
    "unknown key": (lambda s: {**s, "epoch": 3}, ["unknown 'epoch'"]),
    "missing parameter": (drop(*W), ["parameters", "missing 'w'"]),
    "unknown parameter": (
        lambda s: {**s, "parameters": {**s["parameters"], "z": s["parameters"]["w"]}},
        ["parameters", "unknown 'z'"],
    ),
    "parameters": (change("parameters", to=[]), ["parameters", "dict", "list"]),
    "missing state": (drop(*W, "m"), ["'w'", "missing 'm'"]),
    "unknown state": (lambda s: s["parameters"]["w"].update(u=noise(3)) or s, ["'w'", "unknown 'u'"]),
    "missing step": (drop(*W, "step"), ["'w'", "missing 'step'"]),
    "a parameter's type": (change(*W, to=noise(3)), ["'w'", "dict", "ndarray"]),
    "shape": (change(*W, "m", to=lambda a: a.T), ["'w'", "m", r"\(2, 3\)", r"\(3, 2\)"]),
    "broadcastable": (change(*W, "v", to=lambda a: a[0]), ["'w'", "v", r"\(2, 3\)", r"\(3,\)"]),
    "dtype": (
        change(*W, "m", to=lambda a: a.astype(np.float32)),
        ["'w'", "m", "float64", "float32"],
    ),
    "integer state": (change(*W, "m", to=lambda a: a.astype(int)), ["'w'", "m", "int64"]),
    "list state": (change(*W, "m", to=lambda a: a.tolist()), ["'w'", "m", "array", "list"]),
    "None state": (change(*W, "m", to=None), ["'w'", "m", "array", "NoneType"]),
    "number for 0-d": (change("parameters", "s", "m", to=0.5), ["'s'", "m", "array", "float"]),
    "masked state": (change(*W, "m", to=lambda a: np.ma.masked_array(a, True)), ["'w'", "m"]),
    "negative step": (change(*W, "step", to=-1), ["'w'", "step", "at least 0", "-1"]),
    "float step": (change(*W, "step", to=3.0), ["'w'", "step", "whole number", "3.0"]),
    "bool step": (change(*W, "step", to=True), ["'w'", "step", "whole number", "True"]),
    "str step": (change(*W, "step", to="3"), ["'w'", "step", "whole number", "'3'"]),
    "huge step": (change(*W, "step", to=10**400), ["'w'", "step"]),
    "negative steps": (change("steps", to=-1), ["steps", "at least 0", "-1"]),
    "negative skipped": (change("skipped", to=-1), ["skipped", "at least 0", "-1"]),
    "None steps": (change("steps", to=None), ["steps", "whole number", "None"]),
    "Scalar of str": (change(*W, "mu_product", to="1"), ["'w'", "mu_product", "float", "'1'"]),
    "Scalar of None": (change(*W, "mu_product", to=None), ["'w'", "mu_product", "float", "None"]),
    "missing Scalar": (drop(*W, "mu_product"), ["'w'", "missing 'mu_product'"]),
    "other rule": (of(adamite.Adam), ["rule", "'nadam'", "'adam'"]),
    "rule of None": (change("rule", to=None), ["rule", "'nadam'", "None"]),
    "rule of array": (change("rule", to=noise(3)), ["rule", "'nadam'"]),
    "with an average": (of(adamite.NAdam, ema=0.5), ["'ema'|'average'"]),
    "lr below 0": (change("hyperparameters", "lr", to=-1.0), ["lr", RANGE, "-1.0"]),
    "lr of str": (change("hyperparameters", "lr", to="x"), ["lr", RANGE, "'x'"]),
    "lr of None": (change("hyperparameters", "lr", to=None), ["lr", "None"]),
    "eps rounded": (change("hyperparameters", "eps", to=1e-50), ["eps", "1e-50", "float32"]),
    "missing lr": (drop("hyperparameters", "lr"), ["hyperparameters", "missing 'lr'"]),
    "unknown number": (
        lambda s: s["hyperparameters"].update(rate=1.0) or s,
        ["hyperparameters", "unknown 'rate'"],
    ),
    "hyperparameters": (change("hyperparameters", to=None), ["hyperparameters", "dict", "NoneType"]),
    "a schedule": (change("hyperparameters", "lr", to={"schedule": "cosine(1)"}), ["lr", "cosine"]),
    "a choice": (change("choices", to={"nesterov": True}), ["choices", "nesterov"]),
    "choices": (change("choices", to=None), ["choices", "None"]),
    "groups": (change("groups", to={"w": {"lr": 0.1}}), ["groups", "unknown 'w'"]),
    "groups of None": (change("groups", to=None), ["groups", "dict", "NoneType"]),
}


@pytest.mark.parametrize("case", STATES)
def test_state_dicts(case):
    mutate, words = STATES[case]
    scene = Scene(adamite.NAdam)
    other = adamite.NAdam(fresh(), lr=0.5, beta1=0.5)  # of which nothing may be loaded
    other.step(grads(7))
    with pytest.raises(StateDictError) as error:
        scene.opt.load_state_dict(mutate(other.state_dict()))
    has(error, "nothing was loaded", *words)
    scene.unchanged()


MISFITS: dict[str, Any] = {
    "choices": (
        (adamite.Momentum, {"nesterov": True}),
        (adamite.Momentum, {}),
        ["choices", "nesterov"],
    ),
    "momentum": ((adamite.Momentum, {}), (adamite.SGD, {}), ["momentum|'b'"]),
    "kind of decay": ((adamite.AdamW, {}), (adamite.Adam, {}), ["decay"]),
    "l2 for decoupled": (
        (adamite.Adam, {"decay": "l2", "weight_decay": 0.1}),
        (adamite.Adam, {"decay": "decoupled", "weight_decay": 0.1}),
        ["decay", "l2", "decoupled"],
    ),
    "number for a schedule": (
        (adamite.Adam, {"lr": 0.5}),
        (adamite.Adam, {"lr": schedules.cosine(0.1, steps=9)}),
        ["lr", "0.5", "schedule"],
    ),
    "schedule for a number": (
        (adamite.Adam, {"lr": schedules.cosine(0.1, steps=9)}),
        (adamite.Adam, {}),
        ["lr", "cosine"],
    ),
    "another schedule": (
        (adamite.Adam, {"lr": schedules.cosine(0.1, steps=9)}),
        (adamite.Adam, {"lr": schedules.cosine(0.3, steps=9)}),
        ["lr", r"cosine\(0.1", r"cosine\(0.3"],
    ),
    "missing group": (
        (adamite.Adam, {}),
        (adamite.Adam, {"groups": {"w": {"lr": 0.1}}}),
        ["groups", "missing 'w'"],
    ),
    "group's settings": (
        (adamite.Adam, {"groups": {"w": {"beta1": 0.1}}}),
        (adamite.Adam, {"groups": {"w": {"lr": 0.1}}}),
        ["'w'", "missing 'lr'", "unknown 'beta1'"],
    ),
    "average": ((adamite.Adam, {}), (adamite.Adam, {"ema": 0.9}), ["'ema'", "'average'"]),
    "convention": (
        (adamite.Adam, {"convention": "keras"}),
        (adamite.Adam, {}),
        ["rule", "'adam_eps_hat'", "'adam'"],
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_states_of_other_optimizers(case):
    (saved, given), (cls, options), words = MISFITS[case]
    scene = Scene(cls, **options)
    other = saved(fresh(), **given)
    other.step(grads(7))
    with pytest.raises(StateDictError) as error:
        scene.opt.load_state_dict(other.state_dict())
    has(error, "nothing was loaded", *words)
    scene.unchanged()


@pytest.mark.parametrize("name", ["lr", "eps"])
def test_the_state_of_a_schedule_that_does_not_fit(name):
    def options():
        return {name: schedules.ReduceOnPlateau(0.1)}

    scene = Scene(adamite.Adam, **options())
    other = adamite.Adam(fresh(), beta1=0.5, **options())
    other.step(grads(7))
    state = other.state_dict()
    state["hyperparameters"][name]["state"]["value"] = -1.0
    with pytest.raises(StateDictError) as error:
        scene.opt.load_state_dict(state)
    has(error, "nothing was loaded", name, "-1.0")
    scene.unchanged()


def test_several_problems_are_listed_together():
    scene = Scene(adamite.Adam)
    state = copy.deepcopy(scene.opt.state_dict())
    state["parameters"]["w"].pop("m")
    state["parameters"]["s"]["v"] = noise(3)
    state["rule"] = "lion"
    with pytest.raises(StateDictError) as error:
        scene.opt.load_state_dict(state)
    has(error, "'lion'", "missing 'm'", r"'s'.*\(3,\)")
    scene.unchanged()


def test_the_errors_are_what_they_are_called():
    assert issubclass(StateDictError, ValueError) and issubclass(RuleError, TypeError)
    assert issubclass(NonFiniteError, ArithmeticError)
