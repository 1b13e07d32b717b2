"""The problems: their data, and their gradients against finite differences."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from adamite.lab.problems import digits, regression

Array = NDArray[Any]


def slope(loss: Callable[[], float], at: Array, place: tuple[int, ...]) -> float:
    """The derivative of the loss with respect to one number of an array, by central differences."""
    kept, h = at[place], 1e-6
    at[place] = kept + h
    above = loss()
    at[place] = kept - h
    below = loss()
    at[place] = kept
    return (above - below) / (2 * h)


def test_regression_data_are_those_of_the_tutorial() -> None:
    problem = regression.load()
    assert len(problem.x) == 100
    assert problem.y[0] == pytest.approx(2 * -5 + 1 + 0.4967141530112327, abs=1e-12)


def test_regression_leaves_the_global_generator_alone() -> None:
    before = repr(np.random.get_state())  # noqa: NPY002
    regression.load()
    assert repr(np.random.get_state()) == before  # noqa: NPY002


def test_regression_gradient() -> None:
    problem, params = regression.load(), np.array([0.3, -1.2])
    expected = [slope(lambda: problem.loss(params), params, (i,)) for i in range(2)]
    np.testing.assert_allclose(problem.gradient(params), expected, rtol=1e-8)


def test_regression_solution() -> None:
    problem = regression.load()
    solution = problem.solution()
    np.testing.assert_allclose(solution, [2.01379, 0.89615], atol=5e-6)
    np.testing.assert_allclose(problem.gradient(solution), 0, atol=1e-12)
    assert problem.loss(solution) == pytest.approx(0.81490, abs=5e-6)


def test_digits_are_split_once_and_for_all() -> None:
    data, again = digits.load(), digits.load()
    assert data.train_scans.shape == (1437, 64)
    assert data.test_scans.shape == (360, 64)
    assert data.train_scans.dtype == np.float32
    assert (data.train_scans.min(), data.train_scans.max()) == (0, 1)
    assert set(data.test_digits) == set(range(10))
    np.testing.assert_array_equal(data.test_scans, again.test_scans)


def test_digits_batches_take_each_scan_once_an_epoch_in_an_order_of_the_seed() -> None:
    scans = np.arange(11)
    data = digits.Digits(scans, 10 * scans, scans, scans)
    first, again, other = (data.batches(5, seed) for seed in (1, 1, 2))
    epochs = [[next(first), next(first)] for _ in range(2)]
    for epoch in epochs:
        taken = np.concatenate([batch for batch, _ in epoch])
        assert len(set(taken)) == 10
        np.testing.assert_array_equal(np.concatenate([truths for _, truths in epoch]), 10 * taken)
    np.testing.assert_array_equal(epochs[0][0][0], next(again)[0])
    assert not np.array_equal(epochs[0][0][0], next(other)[0])
    assert not np.array_equal(epochs[0][0][0], epochs[1][0][0])


@pytest.mark.parametrize("name", ["w1", "b1", "w2", "b2"])
def test_digits_gradient(name: str) -> None:
    data, params = digits.load(np.float64), digits.start(0, np.float64)
    scans, truths = next(data.batches(32, seed=0))
    gradient = digits.loss_and_gradient(params, scans, truths)[1][name]
    assert gradient.shape == params[name].shape
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = tuple(rng.integers(gradient.shape))
        expected = slope(lambda: digits.loss_and_gradient(params, scans, truths)[0], params[name], place)
        assert gradient[place] == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_digits_network_computes_in_float32() -> None:
    data, params = digits.load(), digits.start(0)
    loss, gradient = digits.loss_and_gradient(params, data.test_scans, data.test_digits)
    assert loss == pytest.approx(np.log(10), abs=1)  # it hasn't learned anything yet
    assert {array.dtype for array in [*params.values(), *gradient.values()]} == {np.dtype("float32")}
