"""Minimize a function of an array, alone or as a method of `scipy.optimize.minimize`."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np

from adamite.frontend.settings import unknown
from adamite.language.rule import Rule
from adamite.numpy import Optimizer, optimizer

Array = np.ndarray[Any, np.dtype[np.float64]]


class OptimizeResult(dict[str, Any]):
    """What SciPy calls so: x, fun, jac, nit, nfev, njev, success, status, message, as attributes and items."""

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


_MESSAGES = (
    "The largest gradient component is at most gtol.",
    "The maximum number of iterations was reached.",
    "The function or its gradient is not finite.",
    "The callback asked to stop.",
)


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
    hess: None = None,
    hessp: None = None,
    bounds: None = None,
    constraints: Any = (),
    **settings: Any,
) -> OptimizeResult:
    """Minimize fun(x, *args), starting from x0.

    Args:
        fun: the function of a float64 array of x0's shape; it returns a number, or with jac=True a pair of the
            number and the gradient.
        x0: where to start; it isn't changed.
        args: further arguments of `fun` and `jac`; a tuple.
        jac: the gradient, a function like `fun`; True if `fun` returns it too; None for central differences
            (two evaluations a coordinate).
        optimizer: a name ("adam", "lion", ...), a rule or a class.
        lr: learning rate, a number or a schedule; about the distance that x moves in a step. 0.01 by default, if
            the rule has one.
        maxiter: steps at most; 10,000 by default.
        gtol: stop when no component of the gradient is larger; 1e-5 by default. `tol` is another name for it, which
            counts where gtol isn't given.
        disp: print at the end why it ended, and what it took.
        return_all: keep x before and after each step, as `allvecs` of the result.
        callback: called after each step with a copy of x, or with `intermediate_result=` if its only argument has that
            name; it stops the search by raising StopIteration or returning True. Other values mean nothing.
        settings: the optimizer's own (beta1, weight_decay, clip_norm, ...).

    Returns:
        Where the gradient is at most gtol, else the best point that was evaluated, as SciPy's result: x, fun, jac,
        nit, nfev, njev, success, status (0 converged, 1 maxiter, 2 not finite, 3 the callback), message, allvecs.

    Raises:
        TypeError, ValueError: for arguments of another kind, and for bounds, constraints and Hessians, which no
            first-order method reads here.

    >>> def bowl(x):
    ...     return ((x - 3) ** 2).sum(), 2 * (x - 3)
    >>> found = minimize(bowl, [0.0, 9.0], jac=True, lr=0.1)
    >>> found.success, found.x.round(3).tolist()
    (True, [3.0, 3.0])

    As a method: `scipy.optimize.minimize(fun, x0, jac=jac, method=adamite.minimize, options={"lr": 0.1})`.
    """
    for name, value in (("hess", hess), ("hessp", hessp), ("bounds", bounds), ("constraints", constraints)):
        if value is not None and len(np.atleast_1d(value)):
            raise ValueError(f"minimize: {name} isn't supported by first-order optimizers; leave it out")
    maxiter = 10_000 if maxiter is None else maxiter
    if not isinstance(maxiter, (int, np.integer)) or isinstance(maxiter, bool) or maxiter < 1:
        raise ValueError(f"minimize: maxiter must be a whole number of at least 1, got {maxiter!r}")
    limit = next((given for given in (gtol, tol) if given is not None), 1e-5)
    if not isinstance(limit, numbers.Real) or not limit >= 0:
        raise ValueError(f"minimize: gtol must be a number of at least 0, got {limit!r}")
    if callback is not None and not callable(callback):
        raise TypeError(f"minimize: callback must be a function, got {callback!r}")
    if not isinstance(args, tuple):
        args = (args,)

    x = _start(x0)
    problem = _Problem(fun, jac, args)
    if isinstance(optimizer, type) and not issubclass(optimizer, Optimizer):
        raise TypeError(f"minimize: optimizer must be a name, a rule or an optimizer's class, got {optimizer!r}")
    cls = optimizer if isinstance(optimizer, type) else _class(optimizer)
    if lr is not None or "lr" in cls.conventions()["paper"].rule.numbers:
        settings["lr"] = 0.01 if lr is None else lr
    _refuse_unknown(cls, settings)
    opt = cls(x, **settings)
    report = _reporter(callback)
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
            status = 3
        elif status is None and opt.steps >= maxiter:
            status = 1
    if status == 0:
        best = value, x, gradient
    result = OptimizeResult(
        x=best[1], fun=best[0], jac=best[2], nit=opt.steps, nfev=problem.nfev, njev=problem.njev,
        success=status == 0, status=status, message=_MESSAGES[status], **({"allvecs": path} if return_all else {}),
    )  # fmt: skip
    if disp:
        counts = f"function evaluations: {problem.nfev}; gradients: {problem.njev}"
        print(f"{result.message}\n    f = {result.fun:g}; steps: {result.nit}; {counts}")
    return result


_class = optimizer


def _refuse_unknown(cls: type[Optimizer], settings: dict[str, Any]) -> None:
    rule = cls.conventions()["paper"].rule
    options = {*inspect.signature(cls.__init__).parameters}
    options -= {"self", "params", "groups", "hyperparameters", "maximize"}
    known = {*rule.numbers, *rule.choices, *options}
    for name in settings:
        if name not in known:
            own = {*inspect.signature(minimize).parameters} - {"settings", "hess", "hessp", "bounds", "constraints"}
            raise TypeError(unknown("minimize", name, {*own, *known}))


def _start(x0: Any) -> Array:
    try:
        given = np.asarray(x0)
        if given.dtype.kind in "biuf":
            return given.astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise ValueError(f"minimize: x0 must be an array of real numbers, got {x0!r:.60}")


def _finished(value: float, gradient: Array, limit: float) -> int | None:
    if not (np.isfinite(value) and np.isfinite(gradient).all()):
        return 2
    return 0 if np.max(np.abs(gradient), initial=0.0) <= limit else None


def _number(value: Any) -> float:
    try:
        found = np.asarray(value, np.float64)
        if found.size == 1 and value is not None:
            return float(found.item())
    except (TypeError, ValueError):
        pass
    raise ValueError(f"minimize: fun must return a number, got {value!r:.60}; a pair with the gradient needs jac=True")


class _Problem:
    """The function with its gradient, counted."""

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
        gradient = np.array(gradient, np.float64)  # a copy: fun may use its buffer again
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
    if callback is None:
        return lambda x, value: False
    try:
        whole = {*inspect.signature(callback).parameters} == {"intermediate_result"}
    except (TypeError, ValueError):
        whole = False

    def report(x: Array, value: float) -> bool:
        try:
            if whole:
                answer = callback(intermediate_result=OptimizeResult(x=x.copy(), fun=value))
            else:
                answer = callback(x.copy())
        except StopIteration:
            return True
        return isinstance(answer, (bool, np.bool_)) and bool(answer)  # SciPy's methods ignore what else is returned

    return report
