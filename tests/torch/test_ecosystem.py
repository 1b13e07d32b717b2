"""What else works with torch's optimizers works with ours: what is around them changes them, saves them, wraps them."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

import adamite.torch as ours
from tests.torch.race import distance, gradient, parameters, params_of, same, snapshot, starts
from tests.torch.test_schedulers import SCHEDULERS
from tests.torch.test_trainers import Words, language_model, losses

pytestmark = [
    pytest.mark.usefixtures("double"),
    *(
        pytest.mark.filterwarnings(f"ignore::{kind}:{module}")  # theirs; what adamite and lr_scheduler warn of fails
        for kind in ("FutureWarning", "DeprecationWarning", "UserWarning")
        for module in ("accelerate", "lightning", "transformers", "torch._", "torch.jit", "torch.utils")
    ),
]
LIBRARIES = (torch.optim, ours)


def both(train: Callable[[Any], Any]) -> list[Any]:
    """What training comes to with torch's optimizers, and with ours."""
    return [train(library) for library in LIBRARIES]


def net(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def data(rows: int, columns: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def train_on_squares(model: Callable[..., Any], optimizer: Any, inputs: int, steps: int) -> None:
    """Minimize the mean square of the outputs, of a batch of 8 in each step."""
    for step in range(steps):
        optimizer.zero_grad()
        model(data(8, inputs, step)).square().mean().backward()
        optimizer.step()


def assert_close(found: Any, expected: Any, bar: float) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=bar, atol=bar)


# ---- schedulers


def settings(optimizer: Any) -> list[dict[str, Any]]:
    """What groups say as torch's say it, tensors as numbers."""
    own = ("params", "ema", "cautious")
    return [
        {k: float(v) if isinstance(v, Tensor) else v for k, v in group.items() if k not in own}
        for group in optimizer.param_groups
    ]


def scheduled(optimizer: Any, scheduler: Any, steps: range) -> list[Any]:
    found = []
    for step in steps:
        for index, p in enumerate(params_of(optimizer)):
            p.grad = gradient(p, step, index)
        optimizer.step()
        scheduler.step(1.0) if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau) else scheduler.step()
        found.append(settings(optimizer))
    return found


@pytest.mark.parametrize("tensor", [False, True], ids=["number", "tensor"])
@pytest.mark.parametrize(("name", "options"), [("AdamW", {}), ("SGD", {"momentum": 0.8}), ("Adam", {"fused": True})])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_schedulers_of_several_groups(kind: str, name: str, options: dict[str, Any], tensor: bool) -> None:
    """Rates that differ and are tensors, which schedulers fill in place; betas and momentum that go in cycles."""

    def rate(value: float) -> Any:
        return torch.tensor(value) if tensor else value

    made = []
    for library in LIBRARIES:
        first, *rest = parameters()
        groups = [{"params": rest, "lr": rate(0.02)}, {"params": [first], "lr": rate(0.1), "weight_decay": 0.1}]
        made.append(getattr(library, name)(groups, **options))
    start = starts(made[0])
    schedulers = [SCHEDULERS[kind](optimizer) for optimizer in made]
    theirs, mine = (scheduled(o, s, range(8)) for o, s in zip(made, schedulers, strict=True))
    assert theirs == mine
    if kind in ("CyclicLR", "OneCycleLR"):
        cycled = [group["momentum"] if name == "SGD" else group["betas"][0] for (group, _) in mine]
        assert len(set(cycled)) > 3
    # Both are saved; ours goes on in a new optimizer, pickled and copied with its scheduler.
    file = io.BytesIO()
    torch.save((made[1].state_dict(), schedulers[1].state_dict()), file)
    file.seek(0)
    states = torch.load(file, weights_only=kind not in ("LambdaLR", "MultiplicativeLR"))
    again = copy.deepcopy(made[1])
    scheduler = SCHEDULERS[kind](again)
    again.load_state_dict(states[0])
    scheduler.load_state_dict(states[1])
    assert scheduled(again, scheduler, range(8, 12)) == scheduled(made[0], schedulers[0], range(8, 12))
    assert distance(again, made[0], start) <= 1e-12


def test_a_scheduled_optimizer_is_pickled() -> None:
    """A scheduler puts a counter around `step`, which a copy doesn't take along."""
    mine = ours.AdamW(parameters(), lr=0.02, clip_norm=1.0)
    scheduler = lr_scheduler.ExponentialLR(mine, 0.9)
    scheduled(mine, scheduler, range(3))
    other = pickle.loads(pickle.dumps(mine))
    for optimizer in (mine, other):
        scheduled(optimizer, lr_scheduler.ConstantLR(optimizer), range(3, 6))
    assert same(snapshot(other), snapshot(mine))


# ---- scaled gradients


@pytest.mark.parametrize("options", [{}, {"fused": True}, {"foreach": True}], ids=str)
def test_a_scaler_of_two_optimizers(options: dict[str, Any]) -> None:
    """Each of them is skipped alone; gradients are unscaled before they are clipped; the scaler is saved."""

    def train(library: Any) -> Any:
        models = [net(6, 4, 1).float() for _ in range(2)]
        optimizers = [library.AdamW(m.parameters(), lr=0.05, **options) for m in models]
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
        seen: list[Any] = []
        for step in range(8):
            with torch.autocast("cpu", torch.float16):
                out = [m(data(4, 6, step).float()).square().mean() for m in models]
            for optimizer in optimizers:
                optimizer.zero_grad()
            scaler.scale(out[0] + out[1]).backward()
            if step in (2, 5):
                next(models[step % 2].parameters()).grad[0, 0] = float("inf")  # type: ignore[index]
            before = [weights(m) for m in models]
            scaler.unscale_(optimizers[0])
            nn.utils.clip_grad_norm_(models[0].parameters(), 0.1)
            for optimizer in optimizers:
                scaler.step(optimizer)
            scaler.update()
            seen.append((scaler.get_scale(), [same(b, weights(m)) for b, m in zip(before, models, strict=True)]))
            state = scaler.state_dict()
            scaler = torch.amp.GradScaler("cpu")
            scaler.load_state_dict(state)
        assert [skipped for _, skipped in seen].count([True, False]) == 1
        assert [skipped for _, skipped in seen].count([False, True]) == 1
        return seen, {f"{k}.{name}": v for k, m in enumerate(models) for name, v in weights(m).items()}

    theirs, mine = both(train)
    assert mine[0] == theirs[0]
    assert_close(mine[1], theirs[1], 1e-5)


def test_our_clipping_of_scaled_gradients() -> None:
    """`clip_norm=` is of the gradients as they are without the scale."""
    found = []
    for scaled in (False, True):
        model = net(5, 3, 1)
        optimizer = ours.SGD(model.parameters(), lr=0.1, momentum=0.9, clip_norm=0.05, nonfinite="skip")
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12, enabled=scaled)
        for step in range(5):
            optimizer.zero_grad()
            scaler.scale(model(data(8, 5, step)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert optimizer.gradient_norm is not None and optimizer.gradient_norm > 0.05
        found.append(weights(model))
    assert_close(found[1], found[0], 1e-12)


# ---- compilers


def test_a_compiled_step_is_compiled_once() -> None:
    """However often lr changes; the compiled model is trained as the plain one."""
    x = data(8, 3)
    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        model = net(3, 5, 1)
        optimizer = ours.AdamW(model.parameters(), lr=0.05, clip_norm=0.5, ema=0.9)
        scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 8)

        def step(model: Any = model, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

        run = torch.compile(step, backend="eager") if compiled else step
        graphs = []
        for _ in range(8):
            run()
            scheduler.step()
            graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        assert graphs[2:] == [graphs[2]] * 6
        with optimizer.averaged():
            averages = {f"{name}, averaged": value for name, value in weights(model).items()}
        found.append({**weights(model), **averages})
    assert_close(found[1], found[0], 1e-12)


@pytest.mark.parametrize(("made", "name"), [("inside", "AdamW"), ("before", "Adagrad")])
def test_what_a_compiled_function_does_with_an_optimizer(made: str, name: str) -> None:
    """Made there or before, it is stepped, scheduled, given groups and settings, saved, loaded and copied."""

    def step(model: Any, optimizer: Any) -> None:
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        optimizer.zero_grad()

    def program(library: Any, model: Any, before: Any) -> Any:
        optimizer = before or getattr(library, name)(model.parameters(), lr=0.05)
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
        step(model, optimizer)
        scheduler.step()
        extra = nn.Parameter(torch.ones(2))
        optimizer.add_param_group({"params": [extra], "lr": 0.5})
        optimizer.param_groups[0]["eps"] = 1e-3
        extra.square().sum().backward()
        step(model, optimizer)
        other = getattr(library, name)([{"params": model.parameters()}, {"params": [extra]}], lr=0.1)
        other.load_state_dict(optimizer.state_dict())
        step(model, other)
        model, other = copy.deepcopy((model, other))
        step(model, other)
        return {f"{k}": p.detach() for k, p in enumerate(params_of(other))}

    found = []
    for library in LIBRARIES:
        torch._dynamo.reset()
        model = nn.Linear(3, 2)
        nn.init.constant_(model.weight, 0.5)
        nn.init.zeros_(model.bias)
        before = getattr(library, name)(model.parameters(), lr=0.05) if made == "before" else None
        run = torch.compile(program, backend="eager") if library is ours else program
        found.append(run(library, model, before))
    assert_close(found[1], found[0], 1e-12)


def test_an_optimizer_of_a_tensor_made_in_a_compiled_function() -> None:
    """And a class of one's own, which does something of its own before."""

    class Mine(ours.AdamW):
        def __init__(self, params: Any, **options: Any) -> None:
            self.mine = 1
            super().__init__(params, **options)

    def program(cls: Any) -> Any:
        w = torch.ones(3, requires_grad=True)
        optimizer = cls([w], lr=0.1)
        (w * w).sum().backward()
        optimizer.step()
        return w.detach()

    for cls in (ours.SGD, Mine):
        torch._dynamo.reset()
        assert torch.equal(torch.compile(program, backend="eager")(cls), program(cls))


def test_our_extras_in_a_compiled_function() -> None:
    """The step in the backward pass, averages, groups, and the settings of the whole, without a warning of dynamo's."""

    def program(model: Any) -> Any:
        optimizer = ours.AdamW(ours.param_groups(model, 0.1), lr=0.05, ema=0.5)
        optimizer.nonfinite = "raise"
        with optimizer.step_in_backward():
            model(torch.ones(2, 3)).square().sum().backward()
        optimizer.clip_norm = 0.01
        optimizer.grad_scale = 2.0
        model(torch.ones(2, 3)).square().sum().backward()
        optimizer.step()
        with optimizer.averaged():
            return model(torch.ones(2, 3))

    found = []
    for compiled in (False, True):
        torch._dynamo.reset()
        model = net(3, 1)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "Dynamo")
            averaged = (torch.compile(program, backend="eager") if compiled else program)(model)
        found.append({"averaged": averaged.detach(), **weights(model)})
    assert same(found[0], found[1])


def wrapped_step(optimizer: Any, calls: list[str]) -> None:
    inner = optimizer.step

    def wrapper(*args: Any, **more: Any) -> Any:
        calls.append("wrapper")
        return inner(*args, **more)

    optimizer.step = wrapper


class Overridden(ours.AdamW):
    calls: ClassVar[list[str]] = []

    def step(self, closure: Any = None) -> Any:
        self.calls.append("wrapper")
        return super().step(closure)


@pytest.mark.parametrize("kind", ["wrapper", "two wrappers", "subclass", "compiled step", "scheduler", "closure"])
def test_steps_that_are_wrapped_in_a_compiled_function(kind: str) -> None:
    """Each wrapper runs once, and so does the step; with hooks, as torch.optim does it."""
    ends = []
    for family in (torch.optim, ours):
        torch.manual_seed(0)
        torch._dynamo.reset()
        calls: list[str] = []
        hooked: list[str] = []
        model = nn.Linear(3, 1)
        Overridden.calls.clear()
        cls = Overridden if kind == "subclass" and family is ours else family.AdamW
        optimizer: Any = cls(model.parameters(), lr=0.1)
        optimizer.register_step_post_hook(lambda *event, hooked=hooked: hooked.append("hook"))
        for _ in range(("wrapper", "two wrappers").index(kind) + 1 if "wrapper" in kind else 0):
            wrapped_step(optimizer, calls)
        if kind == "compiled step":
            optimizer.step = torch.compile(optimizer.step, backend="eager")
        if kind == "scheduler":
            torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

        def closure(model: Any = model, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = model(data(8, 3, 0)).square().mean()
            loss.backward()
            return loss

        def train(optimizer: Any = optimizer, closure: Any = closure) -> None:
            if kind == "closure":
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()

        run = train if kind == "compiled step" else torch.compile(train, backend="eager")
        for _ in range(3):
            run()
        if family is ours:
            assert len(calls + Overridden.calls) == {"wrapper": 3, "two wrappers": 6, "subclass": 3}.get(kind, 0)
            assert len(hooked) == 3
        ends.append(model.weight.detach())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-5, atol=1e-8)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="inductor needs a C++ compiler")
def test_a_model_compiled_to_machine_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # what other runs left may be broken

    def train(library: Any) -> Any:
        torch._dynamo.reset()
        model = net(3, 5, 1)
        optimizer = library.AdamW(model.parameters(), lr=0.05)
        compiled = torch.compile(model)
        train_on_squares(compiled, optimizer, inputs=3, steps=4)
        return weights(model)

    theirs, mine = both(train)
    assert_close(mine, theirs, 1e-10)


# ---- models that change under their optimizer


@pytest.mark.parametrize("name", ["SGD", "AdamW", "Adamax"])
def test_lazy_modules(name: str) -> None:
    """Parameters that have no shape when the optimizer is made."""

    def train(library: Any) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(1))
        optimizer = getattr(library, name)(model.parameters(), lr=0.05)
        train_on_squares(model, optimizer, inputs=3, steps=4)
        return weights(model)

    theirs, mine = both(train)
    assert_close(mine, theirs, 1e-12)


@pytest.mark.parametrize("swap", [False, True])
def test_a_model_is_converted_in_the_middle(swap: bool) -> None:
    """By new data under the old tensors, or by tensors that are swapped for others."""

    def train(library: Any) -> Any:
        model: Any = net(3, 5, 1)
        optimizer = library.SGD(model.parameters(), lr=0.05)
        for step in range(6):
            if step == 3:
                optimizer.zero_grad()
                torch.__future__.set_swap_module_params_on_conversion(swap)
                model.float()
            optimizer.zero_grad()
            model(data(8, 3, step).to(model[0].weight.dtype)).square().mean().backward()
            optimizer.step()
        return weights(model)

    try:
        theirs, mine = both(train)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert_close(mine, theirs, 1e-6)


def test_parametrized_and_pruned_layers() -> None:
    from torch.nn.utils import parametrizations, prune

    def train(library: Any) -> Any:
        model = net(4, 6, 5, 1)
        parametrizations.weight_norm(model[0])
        parametrizations.orthogonal(model[2])
        prune.l1_unstructured(model[4], "weight", 0.4)
        optimizer = library.NAdam(model.parameters(), lr=0.05)
        train_on_squares(model, optimizer, inputs=4, steps=5)
        return weights(model)

    theirs, mine = both(train)
    assert_close(mine, theirs, 1e-10)


# ---- optimizers around ours


class SharpnessAware(torch.optim.Optimizer):
    """SAM (Foret et al. 2021) as it is written everywhere: the arguments of both go to its own groups."""

    def __init__(self, params: Any, base: Any, rho: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups
        self.defaults.update(self.base.defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        params = [p for group in self.param_groups for p in group["params"]]
        norm = torch.stack([p.grad.norm() for p in params]).norm()
        moves = [p.grad * (self.param_groups[0]["rho"] / norm) for p in params]
        torch._foreach_add_(params, moves)
        with torch.enable_grad():
            closure()
        torch._foreach_sub_(params, moves)
        self.base.step()


def sharpness_aware(library: Any, kind: Any, **options: Any) -> Any:
    model = net(70, 64, 1).to(kind)
    optimizer = SharpnessAware(model.parameters(), library.AdamW, lr=0.01, betas=[0.8, 0.9], **options)

    def loss(step: int) -> Any:
        optimizer.zero_grad()
        model(data(8, 70, step).to(kind)).square().mean().backward()

    for step in range(4):
        loss(step)
        optimizer.step(lambda step=step: loss(step))
    return weights(model), optimizer


def test_sharpness_aware_minimization() -> None:
    (theirs, _), (mine, _) = both(lambda library: sharpness_aware(library, torch.float64))
    assert_close(mine, theirs, 1e-12)


WHOLE: dict[str, Any] = {
    "clip_norm": 0.5,
    "nonfinite": "skip",
    "state": "8bit",
    "seed": 7,
    "ema": 0.9,
    "cautious": True,
}


def test_a_groups_options_of_the_whole_are_the_optimizers() -> None:
    """A wrapper hands all of its arguments to groups: those are accepted that say what the optimizer says."""
    _, optimizer = sharpness_aware(ours, torch.float32, **WHOLE)
    assert optimizer.base.clip_norm == 0.5 and optimizer.base.nonfinite == "skip"
    assert optimizer.base.gradient_norm is not None
    narrow = [kept["exp_avg"].dtype for kept in optimizer.base.state.values()]
    assert torch.uint8 in narrow
    other = ours.AdamW(optimizer.base.param_groups, lr=0.01, **WHOLE)
    other.load_state_dict(optimizer.base.state_dict())
    assert "state" not in other.param_groups[0]  # where nobody reads it
    model = net(2, 1)
    for name, wrong in {**WHOLE, "rounding": "kahan", "sparse": "lazy"}.items():
        if name in ("ema", "cautious"):
            continue
        with pytest.raises(
            ValueError,
            match=rf"AdamW: {name} applies to the whole optimizer and can't be set per group; a group has {wrong!r}",
        ):
            ours.AdamW([{"params": model.parameters(), name: wrong}])


@pytest.mark.usefixtures("process_group")
def test_an_optimizer_without_redundancy_hands_all_options_on() -> None:
    from torch.distributed.optim import ZeroRedundancyOptimizer  # its import warns

    options: dict[str, Any] = {"lr": 0.01, "state": "8bit", "seed": 7, "ema": 0.9, "betas": [0.8, 0.9]}
    found = []
    for zero in (False, True):
        model = net(70, 64, 1).float()
        optimizer: Any = (
            ZeroRedundancyOptimizer(model.parameters(), ours.AdamW, **options)
            if zero
            else ours.AdamW(model.parameters(), **options)
        )
        for step in range(4):
            optimizer.zero_grad()
            model(data(8, 70, step).float()).square().mean().backward()
            optimizer.step()
            if zero and step == 1:
                optimizer.consolidate_state_dict()
                state = optimizer.state_dict()
                optimizer = ZeroRedundancyOptimizer(model.parameters(), ours.AdamW, **options)
                optimizer.load_state_dict(state)
        found.append(weights(model))
    assert same(found[0], found[1])


# ---- transformers


def hugging(folder: Path, library: Any, options: dict[str, Any], **more: Any) -> Any:
    """Transformers' Trainer, which makes groups with and without decay, and the optimizer."""
    from transformers import Trainer, TrainingArguments

    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=4,
        logging_steps=1,
        save_steps=3,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        **{"max_steps": 6, "weight_decay": 0.1, "warmup_steps": 2, **more},
    )
    kind = library.AdamW, {"lr": 0.01, **options}
    return Trainer(language_model().float(), arguments, train_dataset=Words(), optimizer_cls_and_kwargs=kind)


def plain(trainer: Any) -> Any:
    """The optimizer within what accelerate makes of it."""
    return getattr(trainer.optimizer, "optimizer", trainer.optimizer)


@pytest.mark.parametrize("more", [{}, {"bf16": True}, {"lr_scheduler_type": "cosine"}], ids=str)
def test_transformers_makes_the_optimizer(tmp_path: Path, more: dict[str, Any]) -> None:
    def train(library: Any) -> Any:
        trainer = hugging(tmp_path / library.__name__, library, {}, save_strategy="no", **more)
        trainer.train()
        return losses(trainer)

    theirs, mine = both(train)
    assert len(mine) == 6 and mine == pytest.approx(theirs, rel=1e-3 if "bf16" in more else 1e-5)


def test_transformers_goes_on_with_a_checkpoint_of_torchs(tmp_path: Path) -> None:
    before = hugging(tmp_path, torch.optim, {})
    before.train()
    after = hugging(tmp_path, ours, {}, save_strategy="no")
    after.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert isinstance(plain(after), ours.AdamW)
    assert losses(after) == pytest.approx(losses(before), rel=1e-5)


def test_transformers_resumes_our_extras(tmp_path: Path) -> None:
    """Clipping, and averages that go through the checkpoint."""
    options = {"clip_norm": 0.5, "ema": 0.9, "nonfinite": "raise"}
    through = hugging(tmp_path, ours, options, max_grad_norm=0.0)
    through.train()
    resumed = hugging(tmp_path, ours, options, max_grad_norm=0.0, save_strategy="no")
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert plain(resumed).gradient_norm == pytest.approx(plain(through).gradient_norm, rel=1e-5)
    found = []
    for trainer in (through, resumed):
        now = weights(trainer.model)
        with plain(trainer).averaged():
            averages = weights(trainer.model)
        assert not same(now, averages)
        found.append({**now, **{f"{name}, averaged": value for name, value in averages.items()}})
    assert_close(found[1], found[0], 1e-5)


# ---- accelerate


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_accelerate_saves_and_loads(tmp_path: Path, precision: str) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    def train(library: Any, name: str, steps: range, saved: int = -1) -> Any:
        AcceleratorState._reset_state(reset_partial_state=True)
        accelerator = Accelerator(cpu=True, mixed_precision=precision)
        model: Any = net(4, 6, 1).float()
        optimizer: Any = library.AdamW(model.parameters(), lr=0.05)
        model, optimizer = accelerator.prepare(model, optimizer)
        if steps.start:
            accelerator.load_state(str(tmp_path / name))
        for step in steps:
            accelerator.backward(model(data(8, 4, step).float()).square().mean())
            accelerator.clip_grad_value_(model.parameters(), 0.02)
            optimizer.step()
            assert not optimizer.step_was_skipped
            optimizer.zero_grad()
            if step == saved:
                accelerator.save_state(str(tmp_path / name))
        return weights(accelerator.unwrap_model(model))

    theirs = train(torch.optim, "theirs", range(6), saved=2)
    mine = train(ours, "ours", range(6), saved=2)
    assert_close(mine, theirs, 1e-5)
    assert_close(train(ours, "ours", range(3, 6)), mine, 1e-6)
    assert_close(train(ours, "theirs", range(3, 6)), mine, 1e-5)


# ---- lightning


def fit(module: Any, folder: Path, *, rows: int = 24, resume: str | None = None, **options: Any) -> Any:
    from lightning.pytorch import Trainer

    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **{"max_epochs": 4, **options},
    )
    trainer.fit(module, DataLoader(TensorDataset(data(rows, 4)), batch_size=6), ckpt_path=resume)
    return trainer


def supervised(library: Any, options: dict[str, Any], watch: bool = False) -> Any:
    from lightning.pytorch import LightningModule

    class Supervised(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = net(4, 6, 6), nn.Linear(6, 1)

        def training_step(self, batch: Any, index: int) -> Any:
            loss = (self.head(self.backbone(batch[0])) - batch[0].sum(1, keepdim=True)).square().mean()
            self.log("loss", loss, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            free = [p for p in self.parameters() if p.requires_grad]
            optimizer = library.AdamW(free, lr=0.02, **options)
            if not watch:
                return optimizer
            scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "loss"}}

    return Supervised().double()


LIGHTNING: dict[str, Callable[[], dict[str, Any]]] = {
    "clipped by value": lambda: {"gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"},
    "accumulated": lambda: {"callbacks": [_callbacks().GradientAccumulationScheduler({0: 1, 2: 3})]},
    "bfloat16": lambda: {"precision": "bf16-mixed"},
    "float64": lambda: {"precision": "64-true"},
    "averaged": lambda: {"callbacks": [_callbacks().StochasticWeightAveraging(0.01, 2, 1)]},
    "unfrozen": lambda: {"callbacks": [_callbacks().BackboneFinetuning(2, lambda epoch: 2.0, verbose=False)]},
}


def _callbacks() -> Any:
    from lightning.pytorch import callbacks

    return callbacks


@pytest.mark.parametrize("how", LIGHTNING)
def test_lightning_around_the_step(how: str, tmp_path: Path) -> None:
    """The callback that unfreezes adds a group in the middle; the one that averages puts its own scheduler in."""

    def train(library: Any) -> Any:
        torch.manual_seed(0)
        module = supervised(library, {}, watch=how == "float64")
        fit(module, tmp_path, **LIGHTNING[how]())
        return weights(module)

    theirs, mine = both(train)
    assert_close(mine, theirs, 1e-3 if how == "bfloat16" else 1e-9)


def test_lightning_resumes_our_extras(tmp_path: Path) -> None:
    options = {"ema": 0.9, "clip_norm": 0.1}
    through = supervised(ours, options, watch=True)
    whole = fit(through, tmp_path)
    half = fit(supervised(ours, options, watch=True), tmp_path, max_epochs=2)
    half.save_checkpoint(tmp_path / "half.ckpt")
    resumed = supervised(ours, options, watch=True)
    end = fit(resumed, tmp_path, resume=str(tmp_path / "half.ckpt"))
    assert settings(end.optimizers[0]) == settings(whole.optimizers[0])
    assert same(weights(resumed), weights(through))
    with end.optimizers[0].averaged(), whole.optimizers[0].averaged():
        assert same(weights(resumed), weights(through))


def test_lightning_with_two_optimizers_by_hand(tmp_path: Path) -> None:
    """Each with its schedule, by turns, within `toggled_optimizer`, given a closure."""
    from lightning.pytorch import LightningModule

    def train(library: Any) -> Any:
        class Game(LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.one, self.other = net(4, 3, 1), net(4, 5, 1)
                self.automatic_optimization = False

            def training_step(self, batch: Any, index: int) -> None:
                optimizers: Any = self.optimizers()
                schedulers: Any = self.lr_schedulers()
                for turn, optimizer in enumerate(optimizers):

                    def closure(sign: int = 1 - 2 * turn, optimizer: Any = optimizer) -> Any:
                        apart = (self.one(batch[0]) - self.other(batch[0])).tanh().mean()
                        optimizer.zero_grad()
                        self.manual_backward(sign * apart)
                        return apart

                    self.toggle_optimizer(optimizer)
                    optimizer.step(closure=closure)
                    self.untoggle_optimizer(optimizer)
                    schedulers[turn].step()

            def configure_optimizers(self) -> Any:
                made = [library.Adam(self.one.parameters(), lr=0.02), library.RMSprop(self.other.parameters(), lr=0.01)]
                return made, [lr_scheduler.ExponentialLR(o, 0.95) for o in made]

        game = Game().double()
        fit(game, tmp_path)
        return weights(game)

    theirs, mine = both(train)
    assert_close(mine, theirs, 1e-10)


def test_fabric(tmp_path: Path) -> None:
    from lightning.fabric import Fabric

    def train(library: Any) -> Any:
        fabric = Fabric(accelerator="cpu", devices=1)
        model: Any = net(4, 6, 1)
        model, optimizer = fabric.setup(model, library.AdamW(model.parameters(), lr=0.05))
        for step in range(6):
            if step == 3:
                fabric.save(tmp_path / "state", {"model": model, "optimizer": optimizer})
                fresh: Any = net(4, 6, 1)
                model, optimizer = fabric.setup(fresh, library.AdamW(fresh.parameters(), lr=0.5))
                fabric.load(tmp_path / "state", {"model": model, "optimizer": optimizer})
            optimizer.zero_grad()
            fabric.backward(model(data(8, 4, step)).square().mean())
            fabric.clip_gradients(model, optimizer, max_norm=0.05)
            optimizer.step()
        return weights(model)

    theirs, mine = both(train)
    assert_close(mine, theirs, 1e-10)
