"""Large steps run on torch's own threads, as many as torch uses; elsewhere, and in a forked child, on ours."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

import adamite
import adamite.torch as ours
from adamite.engine import threads
from adamite.torch import threads as openmp
from tests.support import python
from tests.torch.race import parameters, run, same, snapshot


def test_torchs_threads_are_found() -> None:
    if "OpenMP" not in torch.__config__.parallel_info():
        pytest.skip("torch computes with other threads here")
    assert threads._crew is not threads.OWN


def test_as_many_as_torch_has() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert adamite.threads() == 1
        torch.set_num_threads(2)
        assert adamite.threads() == 2
        with threads.using_threads(3):
            assert adamite.threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("own", [False, True])
def test_the_same_bits_on_any(count: int, own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = ((300_001,), (70,), (1000, 130))
    expected = ours.AdamW(parameters(shapes, torch.float32), clip_norm=1.0)
    with threads.using_threads(1):
        run(expected, range(3))
    if own:
        monkeypatch.setattr(threads, "_crew", threads.OWN)
    mine = ours.AdamW(parameters(shapes, torch.float32), clip_norm=1.0)
    with threads.using_threads(count):
        run(mine, range(3))
    assert same(snapshot(mine), snapshot(expected))


def test_other_libraries_come_after_torchs(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text(
        "7f00-7f01 r-xp 0 00:00 1    /usr/lib/libgomp.so.1\n"
        "7f02-7f03 r-xp 0 00:00 2    /site/a b/torch/lib/libgomp-24e2ab19.so.1.0.0\n"
        "7f04-7f05 r-xp 0 00:00 3    /site/scikit_learn.libs/libgomp-a34b.so.1.0.0\n"
        "7f06-7f07 r-xp 0 00:00 4    /usr/lib/libompanion.txt\n"
    )
    found = openmp._loaded(maps)
    assert found[0] == "/site/a b/torch/lib/libgomp-24e2ab19.so.1.0.0" and len(found) == 3
    assert openmp._loaded(tmp_path / "none") == []


def test_a_forked_child_steps() -> None:
    done = python(
        """
        import os, sys, warnings
        warnings.simplefilter("ignore")
        import torch, adamite.torch as ours

        def trained():
            torch.manual_seed(0)
            p = torch.nn.Parameter(torch.linspace(-1, 1, 500_000))
            optimizer = ours.AdamW([p])
            for _ in range(3):
                p.grad = torch.linspace(1, -1, 500_000)
                optimizer.step()
            return p.detach().numpy().tobytes()

        expected = trained()
        child = os.fork()
        if not child:
            torch.set_num_threads(1)
            os._exit(0 if trained() == expected else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        """
    )
    assert done.returncode == 0, done.stderr


def test_several_threads_at_once() -> None:
    expected = ours.Adam(parameters(((400_000,),), torch.float32))
    run(expected, range(4))
    mine = [ours.Adam(parameters(((400_000,),), torch.float32)) for _ in range(3)]
    workers = [threading.Thread(target=run, args=(optimizer, range(4))) for optimizer in mine]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(same(snapshot(optimizer), snapshot(expected)) for optimizer in mine)
