"""The optimizer of torch's tensors: what is common to all classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.autograd import profiler
from torch.compiler import is_dynamo_compiling
from torch.optim import optimizer as torch_optimizer

from adamite.engine import norms
from adamite.frontend.classes import Documented
from adamite.frontend.settings import NonFinite, unknown
from adamite.frontend.spelling import Spelling
from adamite.graph.lowering import lower
from adamite.language.rule import Rule
from adamite.sparse.rows import Sparse, check_sparse
from adamite.sparse.tables import refuse_inexact
from adamite.storage import choice
from adamite.storage.choice import Storage
from adamite.torch import ranks
from adamite.torch.assigned import Written
from adamite.torch.averages import swapped_in
from adamite.torch.capturing import refuse_capturing
from adamite.torch.loading import Loading
from adamite.torch.options import Extras, check_group, checked, refuse_all_at_once
from adamite.torch.plan import Plan
from adamite.torch.scaling import Handed, overflown, scale_of, unscale
from adamite.torch.settings import OPTIONS, WHOLE, GroupSettings
from adamite.torch.sparse import Tables, refusal
from adamite.torch.state import EMA, keys
from adamite.torch.step_in_backward import StepInBackward
from adamite.torch.tensors import format_of, optimizable


class Optimizer(torch.optim.Optimizer, metaclass=Documented):
    _about = """The base of adamite's optimizers for torch.

    Beyond torch's arguments every class takes:

    Args:
        clip_norm: in (0, inf). Gradients with a larger global norm are scaled down to it during the step; `p.grad`
            isn't written to. For sharded parameters the norm is that of all ranks.
        nonfinite: what to do if a gradient has NaN or infinity: "propagate" it (the default), "raise" NonFiniteError,
            or "skip" the whole step on all ranks; then nothing changes, and `skipped` counts.
        ema: in [0, 1), the decay of an average of the weights, updated in the same pass; see `averaged`.
        cautious: leave out the weights whose step goes against their gradient (Liang et al. 2024; without rescaling).
        state: the storage dtype of the optimizer state: "float32" (the default), "bfloat16" (half the memory) or "8bit"
            (a quarter), both rounded stochastically. For CPU tensors that are computed in float32. Parameters of fewer
            than 4,096 elements, and complex ones, keep float32 state.
        rounding: how bfloat16 parameters are rounded: "nearest" (the default), which loses small steps; "stochastic";
            or "kahan", which keeps what was lost beside the parameter in two more bytes.
        seed: in [0, 2**32), the seed of random rounding. The same seed gives the same bits on any number of threads.
        sparse: what a sparse gradient, as of `torch.nn.Embedding(sparse=True)`, means to the rows without a gradient.
            "lazy": they and their state stay as they are, as in torch.optim.SparseAdam. "exact": they end up where
            dense gradients would have taken them, at the latest when they are next touched, or at `flush`. None: only
            the rows with a gradient are updated if that equals the dense step (plain SGD, Adagrad); otherwise sparse
            gradients are made dense (SGD with momentum) or refused, as torch's optimizer of this name does.

    >>> import torch, adamite.torch
    >>> model = torch.nn.Linear(3, 1)
    >>> optimizer = adamite.torch.AdamW(model.parameters(), lr=0.1, clip_norm=1.0)
    >>> model(torch.ones(2, 3)).square().mean().backward()
    >>> optimizer.step()
    >>> [int(kept["step"]) for kept in optimizer.state.values()]
    [1, 1]
    """
    __doc__: str | None

    _spelling: ClassVar[Spelling]
    _made_from: ClassVar[Rule | None] = None
    _pickled: ClassVar[tuple[Callable[..., Any], tuple[Any, ...]]]  # of a rule's class: what makes a blank optimizer
    _clip_norm: float | None = None
    _nonfinite: NonFinite = "propagate"
    _storage = Storage()
    sparse: Sparse | None = None
    _tables: Tables
    _written: Written
    _swapped = False  # whether the averages are in the parameters
    _stepping: StepInBackward | None = None
    _opt_called = False  # torch's name: its schedulers ask whether a step came before theirs
    _scales = False  # whether `grad_scale` has ever been set
    found_inf = Handed()
    grad_scale = Handed()

    @_disable_dynamo
    def __init__(self, params: Any, defaults: dict[str, Any], extras: Mapping[str, Any]) -> None:
        if not hasattr(type(self), "_spelling"):
            raise TypeError("Optimizer is the base: use Adam, SGD, ... or adamite.torch.optimizer(rule)")
        for name in extras:
            if name not in Extras.__annotations__:
                raise TypeError(unknown(type(self).__name__, name, [*defaults, *Extras.__annotations__]))
        self.skipped = 0
        self.gradient_norm: float | None = None
        self._storage = Storage(**{name: extras[name] for name in Storage._fields if name in extras})
        choice.check(type(self).__name__, self._storage, [])
        self.sparse = check_sparse(type(self).__name__, extras.get("sparse"), self._storage)
        # What isn't asked for isn't in the groups: other libraries expect torch's keys there.
        defaults = {
            **defaults,
            **{name: extras[name] for name in OPTIONS if extras.get(name, OPTIONS[name]) != OPTIONS[name]},
        }
        self._prepare(defaults)
        self.clip_norm, self.nonfinite = extras.get("clip_norm"), extras.get("nonfinite", "propagate")
        self._settings.check(defaults)
        super().__init__(params, {**defaults, **self._settings.tidied(defaults)})
        every = [p for group in self.param_groups for p in group["params"] if optimizable(p)]
        choice.check(type(self).__name__, self._storage, [*map(format_of, every)])

    def _prepare(self, defaults: Mapping[str, Any]) -> None:
        self._settings = GroupSettings(type(self).__name__, self._spelling, defaults)
        self._plans: dict[int, Plan] = {}  # of all parameters (0), and of single ones
        self._tables = Tables(type(self).__name__, self.sparse)
        self._written = Written()

    # ---- a step

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients, in place.

        Args:
            closure: evaluates the model anew and returns the loss.

        Returns:
            The closure's loss, or None.

        Raises:
            RuntimeError, ValueError, TypeError: for gradients that don't fit; nothing has changed then.
            NonFiniteError: under nonfinite="raise".
        """
        if is_dynamo_compiling():  # within a compiled function; machine code can't be traced
            return _untraced(self, closure)
        if type(self).step is not _STEP:  # torch has wrapped the subclass's own, and runs the hooks there
            return self._bare(closure)
        if (
            self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or torch_optimizer._global_optimizer_pre_hooks
            or torch_optimizer._global_optimizer_post_hooks
            or profiler._is_profiler_enabled
        ):
            return _with_hooks(self) if closure is None else _with_hooks(self, closure)
        return self._bare(closure)

    step.hooked = True  # type: ignore[attr-defined]  # torch's wrapper costs more than the step

    def _bare(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._stepping is not None:
            self._stepping.finish()
        self._step()
        return loss

    def _planned(self, only: Tensor | None) -> Plan:
        """The plan as groups and states stand now, which has found the gradients."""
        plan = self._plans.get(id(only) if only is not None else 0)
        groups, state = self.param_groups, self.state
        try:
            follows = plan is not None and plan.follow(groups, state) and not plan.late(groups)
        except KeyError:
            follows = False
            self._fill_groups()
        if plan is not None and follows and plan.look(self._sparse):
            return plan
        shared = self._storage, self._tables, self._written
        plan = Plan(self._settings, groups, state, self._multiplies, *shared, only)
        plan.find(self._sparse)
        return plan

    def _fill_groups(self) -> None:
        """Give groups the defaults of what they don't say."""
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)

    @property
    def _multiplies(self) -> bool:
        """Whether steps multiply the gradients, to clip or to unscale them."""
        return self._clip_norm is not None or self._scales

    def _step(self, only: Tensor | None = None) -> bool:
        """Step on all parameters, or on one if it is in the optimizer: whether it is."""
        self._refuse_swapped()
        refuse_capturing(type(self).__name__)
        plan = self._planned(only)
        if only is not None and not plan.parameters:
            return False
        try:
            factor: float | None = None
            if self._inspects:
                factor = self._factor(plan)
                if factor is None:
                    self.skipped += 1
                    return True
            plan.prepare(factor)
            plan.commit(self.state)
            self._plans[id(only) if only is not None else 0] = plan
            plan.go(factor)
            if self._scales:
                unscale(plan.present(), scale_of(self))
        finally:
            plan.release()
        return True

    def _factor(self, plan: Plan) -> float | None:
        """What the gradients are multiplied by, to clip and unscale them; None where the step is to be left out."""
        if overflown(self):
            return None
        scale = scale_of(self)
        if not self._needs_norm:
            return 1.0 / scale
        norm = norms.norm(lambda more: ranks.square(plan.batches, more / scale), lambda: ranks.bad(plan.batches))
        if norm.bad and self._nonfinite == "raise":
            norms.refuse_nonfinite(plan.number, norm.bad, *[_IN_BACKWARD] * (plan.only is not None))
        if norm.bad and self._nonfinite == "skip":
            return None
        self.gradient_norm = norm.value
        return norm.clip(self._clip_norm) / scale

    def _sparse(self, group: int) -> str | None:
        """Why a group refuses sparse gradients, if it does."""
        return refusal(self._settings, self.sparse, self.param_groups[group])

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let the gradients go, or fill them with zeros (set_to_none=False)."""
        if not set_to_none or profiler._is_profiler_enabled or is_dynamo_compiling():
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:  # torch's own opens a record for the profiler first, which takes longer
            for p in group["params"]:
                p.grad = None

    @_disable_dynamo
    def step_in_backward(self) -> StepInBackward:
        """Update each parameter during the backward pass, as soon as its gradient is ready, and free the gradient.

        So only one gradient is alive at a time, and `step` has nothing left to do. Call `remove()` on the returned
        object to stop, or use it in a `with` block.

        Raises:
            ValueError: with clip_norm and nonfinite="skip", which need all gradients at once.
            NonFiniteError: in the backward pass, under nonfinite="raise"; the parameter stays, and those whose
                gradients came before have moved.

        Each backward pass is a step: no gradients are accumulated, and what is done between `backward` and `step`
        (clip_grad_norm_, GradScaler's unscaling) comes too late.
        """
        if self._stepping is not None:
            raise RuntimeError("step_in_backward() is on already; remove() what it returned first")
        refuse_all_at_once(self._clip_norm, self._nonfinite)
        self._stepping = StepInBackward(self)
        return self._stepping

    # ---- settings

    @property
    def clip_norm(self) -> float | None:
        """The global norm that larger gradients are scaled down to; None for no clipping."""
        return self._clip_norm

    @clip_norm.setter
    def clip_norm(self, value: float | None) -> None:
        limit: float | None = checked(self._settings, "clip_norm", value)
        if self._stepping is not None:
            refuse_all_at_once(limit, self._nonfinite)
        self._clip_norm = limit
        self._changed()

    @property
    def nonfinite(self) -> NonFinite:
        """What is done with NaN or infinity in a gradient: propagate, raise or skip."""
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, value: NonFinite) -> None:
        policy: NonFinite = checked(self._settings, "nonfinite", value)
        if self._stepping is not None:
            refuse_all_at_once(self._clip_norm, policy)
        self._nonfinite = policy
        self._changed()

    def _changed(self) -> None:
        self._needs_norm = self._clip_norm is not None or self._nonfinite != "propagate"
        self._plans = {}
        self._handed()

    def _handed(self) -> None:
        """See what there is to do before a step. From the first `grad_scale` on, plans multiply gradients."""
        self._inspects = self._needs_norm or "found_inf" in vars(self) or "grad_scale" in vars(self)
        if "grad_scale" in vars(self) and not self._scales:
            self._scales, self._plans = True, {}

    @_disable_dynamo
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize more parameters, with settings of their own; what isn't given is the optimizer's default.

        Raises:
            TypeError, ValueError: for settings out of range, and for keys that are misspelled settings; other keys of
                your own are kept, as in torch.
        """
        if isinstance(param_group, dict):
            check_group(self._settings, param_group, self.defaults, self._of_all)
            param_group.update(self._settings.tidied(param_group))
            if self.sparse == "exact":
                refuse_inexact(
                    type(self).__name__, lower(self._settings.read({**self.defaults, **param_group}, False).update)
                )
        super().add_param_group(param_group)
        for name in WHOLE:  # nothing would read it there
            param_group.pop(name, None)
        if self._stepping is not None:
            self._stepping.watch()

    def _of_all(self, option: str) -> Any:
        """An option that isn't a group's."""
        return getattr(self._storage if option in Storage._fields else self, option)

    def __repr__(self) -> str:
        """The groups, and what holds for all of them."""
        options = "".join(f"{name}: {getattr(self, name)}\n" for name in ("clip_norm", "nonfinite")) * self._needs_norm
        options += "".join(f"{n}: {v}\n" for n, v in self._storage.chosen().items())
        options += f"sparse: {self.sparse}\n" * (self.sparse is not None)
        return f"{super().__repr__()[:-1]}{options})"

    # ---- sparse gradients

    @_disable_dynamo
    def flush(self, weight: Tensor | None = None, indices: Any = None) -> None:
        """Under sparse="exact", take rows without gradients to where dense gradients would have taken them.

        `state_dict` flushes by itself. Call it before you read or assign to the parameters.

        Args:
            weight: the parameter whose rows are read next; by default all.
            indices: the row numbers, as they go into the embedding; by default all.

        Raises:
            TypeError, ValueError: for a tensor that isn't optimized here, and for indices that aren't rows'.

        >>> import torch, adamite.torch
        >>> table = torch.nn.Embedding(4, 2, sparse=True)
        >>> with torch.no_grad(): _ = table.weight.fill_(1.0)
        >>> optimizer = adamite.torch.AdamW(table.parameters(), lr=0.1, sparse="exact")
        >>> words = torch.tensor([0, 3])
        >>> for _ in range(2):
        ...     optimizer.flush(table.weight, words)  # the forward pass sees what dense training would
        ...     table(words[:1]).sum().backward()
        ...     optimizer.step()
        ...     optimizer.zero_grad()
        >>> optimizer.flush()
        >>> [round(x, 4) for x in table.weight[:, 0].tolist()]
        [0.7981, 0.998, 0.998, 0.998]
        """
        if weight is None and indices is not None:
            raise TypeError("flush takes the indices of one parameter's rows: flush(weight, indices)")
        if weight is not None and not any(p is weight for group in self.param_groups for p in group["params"]):
            raise ValueError(f"flush takes a parameter of this {type(self).__name__}, got {weight!r:.60}")
        self._tables.flush(weight, indices)

    # ---- averages

    @_disable_dynamo
    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap the averaged weights in: `with opt.averaged(): evaluate(model)`.

        Raises:
            ValueError: where the optimizer keeps none (make it with ema=0.999).
        """
        if all(group.get("ema") is None for group in self.param_groups):
            raise ValueError(f"{type(self).__name__} keeps no average of the weights; make it with ema=0.999")
        if self._swapped:
            raise RuntimeError("the averages are swapped in already")
        averages = [(p, state[EMA]) for p, state in self.state.items() if EMA in state]
        self._swapped = True
        try:
            with swapped_in(averages, self._written):
                yield
        finally:
            self._swapped = False

    # ---- states

    @_disable_dynamo
    def state_dict(self) -> dict[str, Any]:
        """What torch's state_dict of this optimizer holds, in its layout."""
        self._refuse_swapped()
        self.flush()
        state = super().state_dict()
        for group in state["param_groups"]:
            group.update(self._settings.tidied(group))  # where somebody has set them since
        return state

    def _refuse_swapped(self) -> None:
        if self._swapped:
            raise RuntimeError("the averages are swapped in; do this outside of the `with opt.averaged()` block")

    @_disable_dynamo
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of this optimizer, adamite's or torch's.

        Parameters are matched by name where both sides have names (make the optimizer with
        `model.named_parameters()`), whatever wrappers put into them, else by position. Tensors are copied, and keep
        their types. Settings of groups are the checkpoint's, where it has them; `clip_norm` and what else is of the
        whole optimizer stay as they are.

        Raises:
            ValueError, StateDictError: where groups, names, shapes or states don't fit; nothing was loaded.
        """
        self._refuse_swapped()
        if not isinstance(state_dict, Mapping):
            raise TypeError(
                f"{type(self).__name__}: load_state_dict takes what state_dict() returned, got {state_dict!r:.60}, a "
                f"{type(state_dict).__name__}; torch.load reads a file"
            )
        state_dict = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            replaced = before(self, state_dict)
            if replaced is not None:
                state_dict = replaced
        load = Loading(self._settings, self._storage, self.param_groups, self.defaults, state_dict)
        load.problems.tell()
        self.__setstate__({"state": load.state, "param_groups": load.groups})
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    @_disable_dynamo
    def share_memory(self) -> None:
        """Move all states to memory that processes share."""
        for state in self.state.values():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.share_memory_()  # type: ignore[no-untyped-call]

    @_disable_dynamo
    def _make_states(self) -> None:
        """Make every parameter's states now."""
        shared = self._storage, self._tables, self._written
        plan = Plan(self._settings, self.param_groups, self.state, False, *shared, early=True)
        plan.commit(self.state)

    @_disable_dynamo
    def __getstate__(self) -> dict[str, Any]:
        self._refuse_swapped()
        names = ("_clip_norm", "_nonfinite", "_storage", "sparse", "skipped", "gradient_norm")
        options = {name: getattr(self, name) for name in names}
        # Not flushed: the parameters may have been copied already.
        return {**super().__getstate__(), **options, "_pending": self._tables.pending()}

    @_disable_dynamo
    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        pending = state.pop("_pending", ())
        super().__setstate__(state)
        self._prepare(self.defaults)
        self._changed()
        self._fill_groups()
        for group in self.param_groups:
            group.update(self._spelling.fixed)  # whatever was loaded, as in torch
        for p, steps in pending:
            self._resume(p, steps)

    def _resume(self, p: Tensor, steps: Mapping[str, Any]) -> None:
        """Go on with rows that had missed steps when they were copied."""
        group = next(group for group in self.param_groups if any(q is p for q in group["params"]))
        update = self._settings.read(group, self._multiplies).update
        names = keys(self._spelling)
        states = [self.state[p][names[name]] for name in lower(update).inputs[2:]]
        self._tables.resume(p, states, update, format_of(p), steps)

    def __reduce__(self) -> Any:
        made = type(self).__dict__.get("_pickled", (blank, (type(self),)))
        return (*made, self.__getstate__())


_IN_BACKWARD = "It wasn't moved; those before it in the backward pass were. Lower lr"
_disabled: Any = _disable_dynamo
_STEP = Optimizer.step
_untraced = _disabled(_STEP)  # not the optimizer's own `step`, which may be a wrapper that has called this one
_with_hooks = torch.optim.Optimizer.profile_hook_step(Optimizer._bare)


def blank(cls: type[Optimizer]) -> Optimizer:
    """An optimizer that is still to be filled, by pickle."""
    return cls.__new__(cls)
