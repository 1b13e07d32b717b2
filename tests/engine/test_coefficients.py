"""The coefficients of a step lie in one table, in which each row of a job finds its own."""

from __future__ import annotations

import ctypes

import numpy as np

import adamite
from adamite.codegen.job import COEFFICIENTS
from adamite.numpy.batch import MachineBatch


def test_all_cohorts_of_a_step_lie_in_one_table() -> None:
    params = {"a": np.zeros(3), "b": np.zeros(3), "c": np.zeros(3, np.float32), "d": np.zeros(2, np.float32)}
    opt = adamite.Adam(params, groups={"b": {"lr": 0.5}}, clip_norm=1.0)
    grads = {name: np.ones_like(x) for name, x in params.items()}
    opt.step(grads)
    opt.step({**grads, "d": None})  # which parts from c
    batches = opt._batches
    (table,) = {id(batch._table): batch._table for batch in batches}.values()
    start = ctypes.addressof(table.memory)
    cohorts = sorted((cohort for batch in batches for cohort in batch.cohorts), key=lambda cohort: cohort.address)
    assert len(cohorts) == 4
    assert cohorts[0].address == start
    assert all(start <= cohort.address < start + table.used for cohort in cohorts)
    for batch in batches:
        assert isinstance(batch, MachineBatch)
        assert batch._call.job.read(COEFFICIENTS) == [cohort.address for cohort in batch.of]


def test_the_factor_of_the_gradients_is_a_cell_of_its_own() -> None:
    x = np.zeros(3)
    opt = adamite.SGD(x, lr=1.0, clip_norm=1.0)
    opt.step(np.array([3.0, 0.0, 4.0]))
    (batch,) = opt._batches
    (cohort,) = batch.cohorts
    batch.prepare()
    without = cohort.values
    batch.clip(0.25)
    assert sorted({*cohort.values} - {*without}) == [0.25]
    assert x.tolist() == [-3 * 0.2, 0.0, -4 * 0.2]
