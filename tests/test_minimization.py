"""minimize, alone and as a method of SciPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize

import adamite
from adamite import schedules
from adamite.numpy import OPTIMIZERS

Minimize = Callable[..., Any]
CENTER = np.array([1.0, -2.0, 0.5])


def scipys(fun: Any, x0: Any, args: Any = (), *, jac: Any = None, callback: Any = None, **options: Any) -> Any:
    """SciPy's minimize with adamite's as its method."""
    tol = options.pop("tol", None)
    return scipy.optimize.minimize(
        fun, x0, args, method=adamite.minimize, jac=jac, callback=callback, tol=tol, options=options
    )


both = pytest.mark.parametrize("minimize", [adamite.minimize, scipys], ids=["adamite", "scipy"])


def bowl(x: Any) -> float:
    return float(((x - CENTER) ** 2).sum())


def slope(x: Any) -> Any:
    return 2 * (x - CENTER)


def bowl_with_slope(x: Any) -> tuple[float, Any]:
    return bowl(x), slope(x)


# ---- minima ---------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize(
    ("fun", "jac"), [(bowl, slope), (bowl_with_slope, True), (bowl, None)], ids=["function", "pair", "differences"]
)
def test_a_bowl(minimize: Minimize, fun: Any, jac: Any) -> None:
    x0 = np.zeros(3)
    found = minimize(fun, x0, jac=jac, lr=0.1)
    assert found.success and found.status == 0 and "gtol" in found.message
    np.testing.assert_allclose(found.x, CENTER, atol=1e-5)
    assert found.fun == bowl(found.x)
    np.testing.assert_allclose(found.jac, slope(found.x), atol=1e-9)
    assert np.abs(found.jac).max() <= 1e-5
    assert found.nit < 1000
    assert not x0.any()


@both
def test_rosenbrock(minimize: Minimize) -> None:
    x0 = np.array([-1.2, 1.0])
    found = minimize(scipy.optimize.rosen, x0, jac=scipy.optimize.rosen_der, lr=0.02, maxiter=50_000, gtol=1e-6)
    assert found.success
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-4)


def test_the_path_is_the_optimizers() -> None:
    """Forty steps of minimize are forty steps of the optimizer."""
    x = np.zeros(3)
    opt = adamite.NAdam(x, lr=schedules.cosine(0.1, 40), beta1=0.8)
    path = []
    for _ in range(40):
        opt.step(slope(x))
        path.append(x.copy())
    seen: list[Any] = []
    adamite.minimize(
        bowl, np.zeros(3), jac=slope, optimizer="nadam", lr=schedules.cosine(0.1, 40), beta1=0.8, maxiter=40,
        callback=seen.append,
    )  # fmt: skip
    assert np.array_equal(seen, path)


@pytest.mark.parametrize("x", [np.array([0.3, -4.0, 2e5]), np.array([1e-9, 0.0, -1e3])])
def test_central_differences(x: Any) -> None:
    def fun(x: Any) -> float:
        return float(np.sin(x[0]) + x[1] ** 2 * x[0] + 1e-6 * x[2] ** 2)

    exact = np.array([np.cos(x[0]) + x[1] ** 2, 2 * x[0] * x[1], 2e-6 * x[2]])
    found = adamite.minimize(fun, x, maxiter=1, lr=1e-12)
    np.testing.assert_allclose(found.jac, exact, rtol=1e-6, atol=1e-6)
    assert found.nfev == 2 * (1 + 2 * 3) and found.njev == 2


@adamite.rule
def plain(g, *, t, lr=0.1):
    """The user's own."""
    return lr * g


@adamite.rule
def parameterless(g, *, t):
    """The user's own, without a learning rate."""
    return 0.1 * g


@adamite.rule
def paced(g, *, t, pace=0.1):
    """The user's own, its learning rate under another name."""
    return pace * g


FALLING = schedules.exponential(0.1, 0.98, 1)
SPEED: dict[str, Any] = {"sgd": 0.1, "momentum": 0.01, "adadelta": 100.0, "adagrad": 0.5, "rmsprop": FALLING}
SPEED["lion"] = FALLING


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_by_name_and_class(name: str) -> None:
    settings: dict[str, Any] = dict(jac=slope, lr=SPEED.get(name, 0.1), maxiter=2000, gtol=1e-3)
    settings |= {"weight_decay": 0.0} if name == "adamw" else {}  # else it has another minimum
    by_name = adamite.minimize(bowl, np.zeros(3), optimizer=name, **settings)
    by_class = adamite.minimize(bowl, np.zeros(3), optimizer=OPTIMIZERS[name], **settings)
    assert np.array_equal(by_name.x, by_class.x) and by_name.nit == by_class.nit
    assert by_name.success, by_name
    np.testing.assert_allclose(by_name.x, CENTER, atol=1e-2)


@both
@pytest.mark.parametrize("rule", [plain, parameterless, paced], ids=lambda rule: rule.name)
def test_a_users_rule(minimize: Minimize, rule: adamite.Rule) -> None:
    found = minimize(bowl, np.zeros(3), jac=slope, optimizer=rule, **({"lr": 0.1} if rule is plain else {}))
    assert found.success
    np.testing.assert_allclose(found.x, CENTER, atol=1e-5)


@both
def test_arguments_reach_both_functions(minimize: Minimize) -> None:
    def fun(x: Any, center: Any, scale: float) -> float:
        return scale * float(((x - center) ** 2).sum())

    def jac(x: Any, center: Any, scale: float) -> Any:
        return 2 * scale * (x - center)

    for gradient in (jac, None):
        found = minimize(fun, [0.0, 0.0], (np.array([2.0, 3.0]), 0.5), jac=gradient, lr=0.1)
        np.testing.assert_allclose(found.x, [2, 3], atol=1e-4)


def test_one_argument_needs_no_tuple() -> None:
    args: Any = 4.0
    found = adamite.minimize(lambda x, c: ((x - c) ** 2).sum(), [0.0], args, lr=0.1)
    np.testing.assert_allclose(found.x, [4], atol=1e-4)


@pytest.mark.parametrize(
    "x0", [3.0, [3, -1], np.zeros((2, 3, 1)), np.zeros((3, 2)).T, np.zeros(0), np.ones(2, np.float32)]
)
def test_any_shape(x0: Any) -> None:
    shape, before = np.shape(x0), np.array(x0)
    found = adamite.minimize(
        lambda x: (np.sum((x - 1) ** 2), 2 * (x - 1)) if x.shape == shape else None, x0, jac=True, lr=0.1
    )
    assert found.success and found.x.shape == found.jac.shape == shape and found.x.dtype == np.float64
    np.testing.assert_allclose(found.x, np.ones(shape), atol=1e-5)
    assert np.array_equal(x0, before)


# ---- what belongs to whom -------------------------------------------------------------------------


@pytest.mark.parametrize("maxiter", [1, 7, 10_000])
def test_buffers_that_the_function_uses_again(maxiter: int) -> None:
    """The function may write into its argument."""
    buffer = np.empty(3)

    def fun(x: Any) -> tuple[float, Any]:
        value = bowl(x)
        np.copyto(buffer, slope(x))
        x.fill(np.nan)
        return value, buffer

    # lr is so large that the best point is not the last
    found = adamite.minimize(fun, np.zeros(3), jac=True, lr=1.0, maxiter=maxiter)
    x, jac = found.x.copy(), found.jac.copy()
    buffer.fill(99)
    assert np.array_equal(found.x, x) and np.array_equal(found.jac, jac)
    np.testing.assert_allclose(found.jac, slope(found.x))
    assert found.fun == bowl(found.x)


def test_the_best_point_is_returned() -> None:
    values = []

    def fun(x: Any) -> float:
        values.append(bowl(x))
        return values[-1]

    found = adamite.minimize(fun, CENTER + 0.01, jac=slope, lr=1.0, maxiter=9, optimizer="lion")
    assert values[-1] > min(values) == found.fun == bowl(found.x)
    np.testing.assert_allclose(found.jac, slope(found.x))


def test_callbacks_get_copies() -> None:
    kept: list[Any] = []

    def callback(x: Any) -> None:
        kept.append(x.copy())
        x.fill(np.nan)

    found = adamite.minimize(bowl, np.zeros(3), jac=slope, lr=0.1, callback=callback)
    assert found.success and len(kept) == found.nit
    assert np.array_equal(kept[-1], found.x)


# ---- when it ends ---------------------------------------------------------------------------------


def stopping(x: Any) -> None:
    raise StopIteration


def stopping_whole(intermediate_result: Any) -> None:
    assert intermediate_result.fun == bowl(intermediate_result["x"])
    raise StopIteration


def agreeing(x: Any) -> bool:
    return True


def agreeing_whole(*, intermediate_result: Any) -> bool:
    return bool(np.isfinite(intermediate_result.fun))


@both
@pytest.mark.parametrize("callback", [stopping, stopping_whole, agreeing, agreeing_whole], ids=lambda c: c.__name__)
def test_a_callback_stops(minimize: Minimize, callback: Any) -> None:
    found = minimize(bowl, np.zeros(3), jac=slope, callback=callback)
    assert (found.nit, found.status, found.success) == (1, 3, False)
    assert "callback" in found.message


@both
@pytest.mark.parametrize("answer", [None, 0, 1, 0.5, "more", [1], np.ones(3), np.float64(2.0), bowl, np.bool_(False)])
@pytest.mark.parametrize("whole", [False, True])
def test_what_else_a_callback_returns_means_nothing(minimize: Minimize, answer: Any, whole: bool) -> None:
    def callback(x: Any) -> Any:
        return answer

    def callback_whole(intermediate_result: Any) -> Any:
        return answer

    result = minimize(bowl, np.zeros(3), jac=slope, lr=0.1, callback=callback_whole if whole else callback)
    assert result.success and result.nit > 1


@both
def test_a_callback_of_two_arguments_gets_the_point(minimize: Minimize) -> None:
    """As in SciPy, which passes the whole result if `intermediate_result` is the only argument."""
    seen: list[Any] = []

    def callback(x: Any, intermediate_result: Any = None) -> None:
        seen.append((x, intermediate_result))

    result = minimize(bowl, np.zeros(3), jac=slope, lr=0.1, maxiter=2, callback=callback)
    assert result.nit == 2 and all(isinstance(x, np.ndarray) and state is None for x, state in seen)


@both
@pytest.mark.parametrize("disp", [False, True, 0, 1])
def test_disp_prints_how_it_ended(minimize: Minimize, disp: Any, capsys: pytest.CaptureFixture[str]) -> None:
    result = minimize(bowl, np.zeros(3), jac=slope, maxiter=3, disp=disp)
    said = capsys.readouterr().out
    expected = f"{result.message}\n    f = {result.fun:g}; steps: 3; function evaluations: 4; gradients: 4\n"
    assert said == (expected if disp else "")


@both
def test_every_step_is_kept_on_request(minimize: Minimize) -> None:
    seen: list[Any] = []
    result = minimize(bowl, [0, 0, 0], jac=slope, maxiter=3, return_all=True, callback=lambda x: seen.append(x))
    assert np.array_equal(result.allvecs, [np.zeros(3), *seen])
    assert "allvecs" not in minimize(bowl, np.zeros(3), jac=slope, maxiter=3)


@both
def test_a_callback_sees_each_step(minimize: Minimize) -> None:
    seen: list[float] = []
    found = minimize(bowl, np.zeros(3), jac=slope, lr=0.1, callback=lambda intermediate_result: seen.append(
        intermediate_result.fun
    ))  # fmt: skip
    assert len(seen) == found.nit and seen[-1] == found.fun


@both
@pytest.mark.parametrize("maxiter", [1, 5, np.int64(5)])
def test_maxiter(minimize: Minimize, maxiter: Any) -> None:
    found = minimize(bowl, np.zeros(3), jac=slope, maxiter=maxiter)
    assert (found.nit, found.status, found.success) == (maxiter, 1, False)
    assert (found.nfev, found.njev) == (maxiter + 1, maxiter + 1)
    assert "maximum number of iterations" in found.message


@both
def test_gtol_counts_before_tol(minimize: Minimize) -> None:
    loose = minimize(bowl, np.zeros(3), jac=slope, lr=0.1, gtol=1.0, tol=1e-8)
    assert loose.success and 1e-2 < np.abs(loose.jac).max() <= 1.0
    assert minimize(bowl, np.zeros(3), jac=slope, lr=0.1, maxiter=None, gtol=None).success


@both
@pytest.mark.parametrize(("name", "limit"), [("gtol", 0.5), ("gtol", 1e-3), ("tol", 1e-3), ("gtol", 100.0)])
def test_tolerances(minimize: Minimize, name: str, limit: float) -> None:
    found = minimize(bowl, np.zeros(3), jac=slope, lr=0.1, **{name: limit})
    assert found.success and np.abs(found.jac).max() <= limit
    assert (found.nit == 0) == (limit == 100)


@both
@pytest.mark.parametrize(
    ("fun", "jac"),
    [
        (lambda x: np.nan, slope),
        (lambda x: np.inf, slope),
        (bowl, lambda x: np.full(3, np.nan)),
        (lambda x: bowl(x) if x[0] < 0.05 else np.nan, slope),
        (lambda x: bowl(x) if x[0] < 0.05 else np.inf, None),
    ],
    ids=["NaN", "infinite", "gradient", "later", "differences"],
)
def test_functions_that_are_not_finite(minimize: Minimize, fun: Any, jac: Any) -> None:
    with np.errstate(invalid="ignore"):
        found = minimize(fun, np.zeros(3), jac=jac)
    assert (found.status, found.success) == (2, False)
    assert "not finite" in found.message
    assert np.isfinite(found.x).all() and found.x[0] < 0.05


def test_functions_may_return_an_array_of_one() -> None:
    found = adamite.minimize(lambda x: ((x - 3) ** 2).sum(keepdims=True), [0.0], lr=0.1)
    assert isinstance(found.fun, float)
    np.testing.assert_allclose(found.x, [3], atol=1e-4)


def test_results_read_as_scipys() -> None:
    found: Any = adamite.minimize(bowl, np.zeros(3), jac=slope, maxiter=2)
    theirs = scipy.optimize.minimize(bowl, np.zeros(3), jac=slope, method="BFGS")
    assert set(found) <= set(theirs) | {"njev"}
    assert found["x"] is found.x and "nit" in dir(found)
    assert "status: 1" in repr(found)
    with pytest.raises(AttributeError, match="hess"):
        _ = found.hess
    found.x = CENTER  # as SciPy's own methods do
    assert found["x"] is CENTER
    del found.x
    assert "x" not in found


def test_within_scipys_global_search() -> None:
    def bumpy(x: Any) -> float:
        return float(np.cos(14.5 * x[0] - 0.3) + (x[0] + 0.2) * x[0])

    local = {"method": adamite.minimize, "options": {"lr": 0.01}}
    result = scipy.optimize.basinhopping(bumpy, [1.0], minimizer_kwargs=local, niter=30, rng=0)
    np.testing.assert_allclose(result.x, [-0.195], atol=1e-3)
    assert result.lowest_optimization_result.success


# ---- wrong use ------------------------------------------------------------------------------------

WRONG = (TypeError, ValueError)
REFUSED: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "bounds": (ValueError, "bounds", dict(bounds=[(0, 1)] * 3)),
    "Bounds": (ValueError, "bounds", dict(bounds=scipy.optimize.Bounds([0] * 3, [1] * 3))),
    "constraints": (ValueError, "constraints", dict(constraints={"type": "eq", "fun": bowl})),
    "constraint list": (ValueError, "constraints", dict(constraints=[{"type": "eq", "fun": bowl}])),
    "hess": (ValueError, "hess", dict(hess=lambda x: np.eye(3))),
    "hessp": (ValueError, "hessp", dict(hessp=lambda x, p: p)),
    "jac as text": (WRONG, "jac must be .*2-point", dict(jac="2-point")),
    "jac as an array": (WRONG, "jac must be", dict(jac=np.zeros(3))),
    "gradient's shape": (WRONG, r"\(3,\).*\(2,\)", dict(jac=lambda x: np.zeros(2))),
    "gradient's dimensions": (WRONG, r"\(3,\).*\(1, 3\)", dict(jac=lambda x: np.zeros((1, 3)))),
    "a scalar gradient": (WRONG, r"\(3,\).*\(\)", dict(jac=lambda x: 0.0)),
    "no pair": (WRONG, "jac=True", dict(jac=True)),
    "maxiter 0": (ValueError, "maxiter .*at least 1, got 0", dict(maxiter=0)),
    "maxiter -1": (ValueError, "maxiter .*at least 1, got -1", dict(maxiter=-1)),
    "maxiter 10.0": (ValueError, "maxiter .*10.0", dict(maxiter=10.0)),
    "maxiter True": (ValueError, "maxiter .*True", dict(maxiter=True)),
    "gtol -1": (ValueError, "gtol .*at least 0, got -1", dict(gtol=-1)),
    "gtol NaN": (ValueError, "gtol .*nan", dict(gtol=np.nan)),
    "gtol as a list": (WRONG, r"gtol .*\[1\]", dict(gtol=[1])),
    "gtol as text": (WRONG, "gtol .*small", dict(gtol="small")),
    "tol -1": (ValueError, "tol .*at least 0, got -1", dict(tol=-1)),
    "callback 3": (WRONG, "callback .*3", dict(callback=3)),
    "unknown optimizer": (ValueError, "did you mean adamw", dict(optimizer="adamww")),
    "no optimizer": (WRONG, "optimizer", dict(optimizer=int)),
    "unknown setting": (TypeError, "did you mean beta1 and beta2", dict(betas=(0.9, 0.99))),
    "lr out of range": (ValueError, r"lr must be .*\[0, inf\)", dict(lr=-1.0)),
    "x0 as text": (WRONG, "x0", dict(x0="here")),
    "complex x0": (WRONG, "x0", dict(x0=[1j, 2])),
    "ragged x0": (WRONG, "x0", dict(x0=[[1], [2, 3]])),
    "function of nothing": (WRONG, "fun .*number.*None", dict(fun=lambda x: None)),
    "function of vectors": (WRONG, "fun .*number", dict(fun=lambda x: x)),
    "function of a pair": (WRONG, "fun .*number.*jac=True", dict(fun=bowl_with_slope)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_use_is_answered_in_words(case: str) -> None:
    kind, said, given = REFUSED[case]
    with pytest.raises(kind, match=said):
        adamite.minimize(**{"fun": bowl, "x0": np.zeros(3), **given})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bounds", [(0, 1)] * 3),
        ("constraints", {"type": "eq", "fun": bowl}),
        ("hess", lambda x: np.eye(3)),
        ("hessp", lambda x, p: p),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_scipys_further_arguments_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name} isn't supported"):
        scipy.optimize.minimize(bowl, np.zeros(3), jac=slope, method=adamite.minimize, **{name: value})
