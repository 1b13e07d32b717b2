"""Minimize a function of an array, alone or as a method of `scipy.optimize.minimize`."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from adamite.frontend.settings import unknown
from adamite.language.rule import Rule
from adamite.numpy import Optimizer
from adamite.numpy import optimizer as optimizer_class

Array = np.ndarray[Any, np.dtype[np.float64]]


class OptimizeResult(dict[str, Any]):
    """SciPy's result of that name: x, fun, jac, nit, nfev, njev, success, status, message, as attributes and items."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__
    __delattr__ = dict.__delitem__

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self]

    def __repr__(self) -> str:
        width = max(map(len, self))
        return "\n".join(f"{name:>{width}}: {value!r}" for name, value in self.items())


_CONVERGED, _MAXITER, _NOT_FINITE, _STOPPED = range(4)
_MESSAGES = {
    _CONVERGED: "The largest gradient component is at most gtol.",
    _MAXITER: "The maximum number of iterations was reached.",
    _NOT_FINITE: "The function or its gradient is not finite.",
    _STOPPED: "The callback asked to stop.",
}
_UNSUPPORTED = "hess", "hessp", "bounds", "constraints"  # SciPy passes them to every method


def minimize(
    fun: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    jac: Callable[..., Any] | bool | None = None,
    optimizer: str | Rule | type[Optimizer] = "adam",
    lr: Any = None,
    maxiter: int | None = None,
    gtol: float | None = None,
    tol: float | None = None,
    disp: bool = False,
    return_all: bool = False,
    callback: Callable[..., Any] | None = None,
    **settings: Any,
) -> OptimizeResult:
    """Minimize fun(x, *args), starting from x0.

    Args:
        fun: takes a float64 array of x0's shape; returns a number, or with jac=True the number and the gradient.
        x0: where to start; it isn't changed.
        args: further arguments of `fun` and `jac`; a tuple.
        jac: the gradient, a function like `fun`; True if `fun` returns it too; None for central differences
            (two evaluations a coordinate).
        optimizer: a name ("adam", "lion", ...), a rule or a class.
        lr: learning rate, a number or a schedule; about the distance that x moves in a step. Default 0.01.
        maxiter: the maximum number of steps; 10,000 by default.
        gtol: stop when no component of the gradient is larger; 1e-5 by default. `tol` is used if gtol isn't given.
        disp: print at the end why it stopped, and how many evaluations it took.
        return_all: keep x before and after each step, as `allvecs` of the result.
        callback: called after each step with a copy of x, or with `intermediate_result=` if its only argument has that
            name. It stops the search by raising StopIteration or returning True; other return values are ignored.
        settings: the optimizer's own (beta1, weight_decay, clip_norm, ...).

    Returns:
        Where the gradient is at most gtol, else the best point that was evaluated, as SciPy's result: x, fun, jac,
        nit, nfev, njev, success, status (0 converged, 1 maxiter, 2 not finite, 3 the callback), message, allvecs.

    Raises:
        TypeError, ValueError: an argument is invalid, or isn't supported (bounds, constraints, Hessians).

    >>> def bowl(x):
    ...     return ((x - 3) ** 2).sum(), 2 * (x - 3)
    >>> found = minimize(bowl, [0.0, 9.0], jac=True, lr=0.1)
    >>> found.success, found.x.round(3).tolist()
    (True, [3.0, 3.0])

    As a method: `scipy.optimize.minimize(fun, x0, jac=jac, method=adamite.minimize, options={"lr": 0.1})`.
    """
    _refuse_unsupported(settings)
    steps, limit = _steps(maxiter), _limit(gtol, tol)
    if callback is not None and not callable(callback):
        raise TypeError(f"minimize: callback must be a function, got {callback!r}")
    x, problem = _start(x0), _Problem(fun, jac, args if isinstance(args, tuple) else (args,))
    opt = _optimizer(optimizer, x, lr, settings)
    result = _search(opt, x, problem, steps, limit, _reporter(callback), return_all)
    if disp:
        counts = f"function evaluations: {problem.nfev}; gradients: {problem.njev}"
        print(f"{result.message}\n    f = {result.fun:g}; steps: {result.nit}; {counts}")
    return result


def _search(
    opt: Optimizer,
    x: Array,
    problem: _Problem,
    maxiter: int,
    limit: float,
    report: Callable[[Array, float], bool],
    return_all: bool,
) -> OptimizeResult:
    """Step until something ends the search; `opt` moves x."""
    value, gradient = problem(x)
    best = value, x.copy(), gradient
    path = [x.copy()] if return_all else []
    status = _finished(value, gradient, limit)
    while status is None:
        opt.step(gradient)
        value, gradient = problem(x)
        if value < best[0] or not np.isfinite(best[0]):
            best = value, x.copy(), gradient
        if return_all:
            path.append(x.copy())
        status = _finished(value, gradient, limit)
        if report(x, value):
            status = _STOPPED
        elif status is None and opt.steps >= maxiter:
            status = _MAXITER
    if status == _CONVERGED:
        best = value, x, gradient
    result = OptimizeResult(
        x=best[1], fun=best[0], jac=best[2], nit=opt.steps, nfev=problem.nfev, njev=problem.njev,
        success=status == _CONVERGED, status=status, message=_MESSAGES[status],
    )  # fmt: skip
    return OptimizeResult(result, allvecs=path) if return_all else result


def _finished(value: float, gradient: Array, limit: float) -> int | None:
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        return _NOT_FINITE
    return _CONVERGED if np.max(np.abs(gradient), initial=0.0) <= limit else None


# ---- arguments ------------------------------------------------------------------------------------


def _refuse_unsupported(settings: dict[str, Any]) -> None:
    """Remove from the settings what SciPy passes to every method."""
    for name in _UNSUPPORTED:
        value = settings.pop(name, None)
        if value is not None and len(np.atleast_1d(value)):
            raise ValueError(f"minimize: {name} isn't supported by first-order optimizers; leave it out")


def _steps(maxiter: int | None) -> int:
    steps = 10_000 if maxiter is None else maxiter
    if not isinstance(steps, (int, np.integer)) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"minimize: maxiter must be a whole number of at least 1, got {steps!r}")
    return int(steps)


def _limit(gtol: float | None, tol: float | None) -> float:
    limit = next((limit for limit in (gtol, tol) if limit is not None), 1e-5)
    if not isinstance(limit, numbers.Real) or not limit >= 0:
        raise ValueError(f"minimize: gtol must be a number of at least 0, got {limit!r}")
    return limit


def _optimizer(optimizer: str | Rule | type[Optimizer], x: Array, lr: Any, settings: dict[str, Any]) -> Optimizer:
    if isinstance(optimizer, type) and not issubclass(optimizer, Optimizer):
        raise TypeError(f"minimize: optimizer must be a name, a rule or an optimizer's class, got {optimizer!r}")
    cls = optimizer if isinstance(optimizer, type) else optimizer_class(optimizer)
    if lr is not None or "lr" in cls.conventions()["paper"].rule.numbers:
        settings = settings | {"lr": 0.01 if lr is None else lr}
    _refuse_unknown(cls, settings)
    return cls(x, **settings)


def _refuse_unknown(cls: type[Optimizer], settings: dict[str, Any]) -> None:
    rule = cls.conventions()["paper"].rule
    options = {*inspect.signature(cls.__init__).parameters}
    options -= {"self", "params", "groups", "hyperparameters", "maximize"}
    allowed = {*rule.numbers, *rule.choices, *options}
    for name in settings:
        if name not in allowed:
            arguments = {*inspect.signature(minimize).parameters} - {"settings"}
            raise TypeError(unknown("minimize", name, arguments | allowed))


def _start(x0: Any) -> Array:
    try:
        start = np.asarray(x0)
        if start.dtype.kind in "biuf":
            return start.astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"minimize: x0 must be an array of real numbers, got {x0!r:.60}")


def _number(value: Any) -> float:
    try:
        number = np.asarray(value, np.float64)
        if number.size == 1 and value is not None:
            return float(number.item())
    except (TypeError, ValueError):
        pass
    raise ValueError(f"minimize: fun must return a number, got {value!r:.60}; a pair with the gradient needs jac=True")


# ---- the function ---------------------------------------------------------------------------------


class _Problem:
    """The function and its gradient; counts the evaluations."""

    def __init__(self, fun: Callable[..., Any], jac: Callable[..., Any] | bool | None, args: tuple[Any, ...]) -> None:
        if jac is not None and not isinstance(jac, bool) and not callable(jac):
            raise ValueError(f"minimize: jac must be a function, True or None, got {jac!r:.60}")
        self.fun, self.jac, self.args = fun, jac, args
        self.nfev = self.njev = 0

    def __call__(self, x: Array) -> tuple[float, Array]:
        if self.jac is True:
            self.nfev += 1
            both = self.fun(x.copy(), *self.args)
            if not isinstance(both, (tuple, list)) or len(both) != 2:
                raise ValueError(f"minimize: with jac=True fun returns a number and the gradient, not {both!r:.60}")
            value, gradient = _number(both[0]), both[1]
        else:
            value, gradient = self.value(x), None
        self.njev += 1
        if callable(self.jac):
            gradient = self.jac(x.copy(), *self.args)
        elif gradient is None:
            gradient = self.differences(x)
        gradient = np.array(gradient, np.float64)  # a copy: fun may reuse its buffer
        if gradient.shape != x.shape:
            raise ValueError(f"minimize: the gradient must have x0's shape {x.shape}, got {gradient.shape}")
        return value, gradient

    def value(self, x: Array) -> float:
        self.nfev += 1
        return _number(self.fun(x.copy(), *self.args))

    def differences(self, x: Array) -> Array:
        """Central differences."""
        gradient, moved = np.empty_like(x), x.copy()
        for index in np.ndindex(x.shape):
            width = np.cbrt(np.finfo(float).eps) * max(1.0, abs(x[index]))
            sides = []
            for side in (x[index] + width, x[index] - width):
                moved[index] = side
                sides.append((side, self.value(moved)))
            (right, above), (left, below) = sides
            gradient[index] = (above - below) / (right - left)
            moved[index] = x[index]
        return gradient


def _reporter(callback: Callable[..., Any] | None) -> Callable[[Array, float], bool]:
    """A function that calls the callback, and returns whether it asks to stop."""
    if callback is None:
        return lambda x, value: False
    try:
        takes_result = {*inspect.signature(callback).parameters} == {"intermediate_result"}
    except (TypeError, ValueError):
        takes_result = False

    def report(x: Array, value: float) -> bool:
        try:
            if takes_result:
                answer = callback(intermediate_result=OptimizeResult(x=x.copy(), fun=value))
            else:
                answer = callback(x.copy())
        except StopIteration:
            return True
        return isinstance(answer, (bool, np.bool_)) and bool(answer)  # as SciPy's methods do

    return report
