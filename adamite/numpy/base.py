"""The optimizer of NumPy arrays: what is common to all classes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any, ClassVar

from adamite.engine import norms, running
from adamite.engine.coefficients import CoefficientTable
from adamite.engine.memory import Ranges
from adamite.errors import counted
from adamite.frontend.classes import Documented
from adamite.frontend.settings import NonFinite, Schedule, check_nonfinite
from adamite.frontend.spelling import Convention, Framework
from adamite.graph.lowering import lower
from adamite.language.rule import DEFAULT
from adamite.language.update import Decay, Update
from adamite.numpy.averages import begin, exchange
from adamite.numpy.batch import Batch, MachineBatch
from adamite.numpy.hyperparameters import Group, Hyperparameters
from adamite.numpy.slots import RowsGiven, Slot, slots_of, written
from adamite.numpy.state import Loading, allocate, saved, start
from adamite.numpy.tree import Tree
from adamite.sparse.rows import Rows, Sparse, check_sparse
from adamite.storage import Layout
from adamite.storage.choice import StateDtype, Storage


class Optimizer(metaclass=Documented):
    _about: ClassVar[str] = """An optimizer of NumPy arrays, in place.

    Args:
        params: an array, or any nesting of dicts, lists and tuples of arrays; float32 or float64, of any layout.
        lr: learning rate, if the rule has one: a number or a schedule.
        convention: whose defaults and equations: "paper", "torch", "keras" or "optax".
        groups: settings for some parameters, {pattern: {name: value}}. The pattern is a glob on parameter names, such
            as "*.bias"; a parameter's name is its path in the nesting, joined by dots.
        weight_decay: in [0, inf). `decay` says what it means.
        decay: "decoupled" (x shrinks by lr * weight_decay * x, as in AdamW) or "l2" (weight_decay * x is added to the
            gradient). By default what the convention means; refused if the convention has none.
        clip_norm: in (0, inf). Gradients with a larger global norm are scaled down to it during the step; the arrays
            that you pass aren't written to.
        nonfinite: what to do if a gradient has NaN or infinity: "propagate" it (the default), "raise" NonFiniteError,
            or "skip" the whole step; then nothing changes, and `skipped` counts.
        ema: in [0, 1), the decay of an average of the weights, updated in the same pass; see `averaged`.
        maximize: ascend instead of descending.
        state: the storage dtype of the optimizer state: "float32" (the default), "bfloat16" (half the memory) or "8bit"
            (a quarter), both rounded stochastically, for float32 parameters. Parameters of fewer than 4,096 elements
            keep float32 state.
        seed: in [0, 2**32), the seed of random rounding. The same seed gives the same bits on any number of threads.
        sparse: what an `adamite.Rows` gradient means to the rows without a gradient. "lazy": they and their state stay
            as they are. "exact": they end up where dense gradients would have taken them, at the latest when they are
            next touched, or at `flush`. None: only the rows with a gradient are updated if that equals the dense step
            (SGD without momentum and weight decay, Adagrad); otherwise sparse gradients are refused.
        hyperparameters: the rule's own (lr, beta1, ...), each a number or a schedule, a function of the number of steps
            done. All can be read and assigned later: `opt.lr = 0.01`. Reading gives the value of the next step.

    Raises:
        TypeError, ValueError: for parameters that can't be updated in place and settings out of range.
    """
    _conventions: ClassVar[Mapping[str, Convention]]
    _pickled: ClassVar[tuple[Callable[..., Any], tuple[Any, ...]]]  # of a rule's class: what makes a blank optimizer
    __doc__: str | None

    def __init__(
        self,
        params: Any,
        lr: float | Schedule = DEFAULT,
        *,
        convention: Framework = "paper",
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        weight_decay: float | Schedule | None = None,
        decay: Decay | None = None,
        clip_norm: float | Schedule | None = None,
        nonfinite: NonFinite = "propagate",
        ema: float | Schedule | None = None,
        maximize: bool = False,
        state: StateDtype = "float32",
        seed: int = 0,
        sparse: Sparse | None = None,
        **hyperparameters: Any,
    ) -> None:
        name = type(self).__name__
        if not hasattr(type(self), "_conventions"):
            raise TypeError("Optimizer is the base: use Adam, SGD, ... or adamite.optimizer(rule)")
        if lr is not DEFAULT:
            hyperparameters["lr"] = lr
        if isinstance(params, (list, tuple)) and params and all(isinstance(p, dict) and "params" in p for p in params):
            raise TypeError(
                f"{name} takes groups by the parameters' names: {name}(params, groups={{'*.bias': {{'lr': 0.01}}}})"
            )
        self._tree = Tree(params)
        self._slots = slots_of(name, self._tree, params)
        self._hyper = hyper = Hyperparameters(
            name,
            self._conventions,
            convention,
            formats={s.format for s in self._slots},
            storage=Storage(state, seed=seed),
            decay=decay,
            maximize=maximize,
            ema=ema,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            given=hyperparameters,
        )
        self.nonfinite = nonfinite
        self._sparse = check_sparse(name, sparse, hyper.storage)
        self._skipped, self._swapped = 0, False
        self._norm: float | None = None
        settings = hyper.group(groups or {}, [s.name for s in self._slots])
        for slot in self._slots:
            slot.settings = settings[slot.name]
            slot.absent = hyper.absent(slot.settings)
            allocate(slot, hyper)
        hyper.refuse_idle(hyperparameters)
        self._history: dict[str, tuple[int, tuple[float, ...]]] = {
            s.name: (0, tuple(start(s, state.start) for state in hyper.rule.states if state.scalar))
            for s in self._slots
        }
        self._batches: list[Batch] = []
        self._unmoved = [*self._slots] if hyper.ema else []  # those whose average hasn't begun
        self._refresh()

    @classmethod
    def conventions(cls) -> Mapping[str, Convention]:
        """What the frameworks mean by this optimizer."""
        return cls._conventions

    # ---- what a step does

    def step(self, grads: Any) -> None:
        """Update the parameters in place.

        Args:
            grads: gradients in the nesting of the parameters, of their shapes and types. A None leaves its
                parameter out: neither it, its states nor its step number change. Gradients are never written.

        Raises:
            TypeError, ValueError: where the gradients don't fit; nothing has changed then.
            NonFiniteError: under nonfinite="raise".
        """
        hyper, thread = self._hyper, get_ident()
        if hyper.thread not in (None, thread):
            raise RuntimeError(
                f"{type(self).__name__}: another thread is in a step of this optimizer; give each thread its own, or "
                "hold a lock around the step"
            )
        hyper.thread = thread
        try:
            self._step(hyper, grads)
        finally:
            hyper.thread = None
            for batch in self._batches:
                batch.gradients = []  # lets them go

    def _step(self, hyper: Hyperparameters, grads: Any) -> None:
        if hyper.stale:
            self._refresh()
        self._tree.check()
        gradients = self._tree.flatten(grads)
        if self._by_rows:
            self._sort(gradients)
        try:
            self._look(gradients)
        except RowsGiven:  # the first of their parameter
            self._sort(gradients)
            self._look(gradients)
        factor: float | None = None
        if self._inspects:
            factor = self._inspect()
            if factor is None:
                self._skipped += 1
                return
        if self._unmoved:
            begin(slot for slot in self._unmoved if gradients[slot.index] is not None)
        for batch in self._batches:
            batch.prepare()
            if factor is not None:
                batch.clip(factor)
        after = hyper.steps + 1
        running.to_the_end(functools.partial(self._go, after, gradients))

    def _look(self, gradients: list[Any]) -> None:
        for batch in self._batches:
            batch.look(gradients, self._guard)

    def _sort(self, gradients: list[Any]) -> None:
        """Let gradients of rows, and those that are dense, come to batches of their kinds."""
        present = [slot for slot in self._slots if gradients[slot.index] is not None]
        changed = [slot for slot in present if isinstance(gradients[slot.index], Rows) is not slot.by_rows]
        for slot in changed:
            if not slot.by_rows:
                from adamite.numpy.sparse import refuse_scattered

                if self._rows_mode(slot) is None:
                    slot.refuse_rows()
                refuse_scattered(slot)
        if changed:
            self._hyper.stale = True  # until the batches are made, whatever interrupts that
            for slot in changed:
                slot.by_rows = not slot.by_rows
            self._refresh()

    def _go(self, after: int, gradients: Sequence[Any]) -> None:
        """Update everything; called again after an interrupt it does what is left."""
        for batch in self._batches:
            batch.go()
            batch.finish()
        self._hyper.steps = after
        if self._unmoved:
            self._unmoved = [slot for slot in self._unmoved if gradients[slot.index] is None]

    def _guard(self, moved: bool) -> Ranges:
        """The memory that a step writes."""
        self._refuse_swapped()
        if moved:
            self._ranges = written(self._slots)
            for batch in self._batches:
                batch.forget_safe()
        return self._ranges

    def _refuse_swapped(self) -> None:
        if self._swapped:
            raise RuntimeError("the averages are swapped in; do this outside of the `with opt.averaged()` block")

    def _inspect(self) -> float | None:
        """The norm's clipping factor; None where the step is to be skipped."""
        norm = norms.norm(self._square, lambda: [name for batch in self._batches for name in batch.nonfinite()])
        if norm.bad and self.nonfinite == "raise":
            norms.refuse_nonfinite(self.steps + 1, norm.bad)
        if norm.bad and self.nonfinite == "skip":
            return None
        self._norm = norm.value
        return norm.clip(self._hyper.settings.at("clip_norm", self.steps))

    def _square(self, scale: float = 1.0) -> float:
        square = 0.0
        for batch in self._batches:
            square = batch.square(square, scale)
        return square

    # ---- settings

    @property
    def steps(self) -> int:
        """How many steps were done; schedules read it."""
        return self._hyper.steps

    @property
    def skipped(self) -> int:
        """How many steps were left out under nonfinite="skip"."""
        return self._skipped

    @property
    def gradient_norm(self) -> float | None:
        """The global norm of the last gradients, before clipping; None where no option needs it."""
        return self._norm

    @property
    def nonfinite(self) -> NonFinite:
        """What is done with NaN or infinity in a gradient: propagate, raise or skip."""
        return self._nonfinite

    @nonfinite.setter
    def nonfinite(self, value: NonFinite) -> None:
        self._nonfinite = check_nonfinite(value)
        self._hyper.stale = True

    @property
    def groups(self) -> dict[str, Group]:
        """The groups by their pattern: `opt.groups["*.bias"].lr = 0.01`."""
        return {group.pattern: group for group in self._hyper.groups}

    def schedule(self, name: str) -> Schedule | None:
        """The schedule of a hyperparameter, None where it is a number."""
        hyper = self._hyper
        hyper.get(hyper.settings, name)
        value = hyper.settings.source(name) if name not in hyper.choices else None
        return value if callable(value) else None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._hyper.get(self._hyper.settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_") or isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, value)
        else:
            self._hyper.set(self._hyper.settings, name, value)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._hyper.names]

    # ---- states and batches

    @property
    def update(self) -> Update:
        """What is run: the rule with its choices and surroundings."""
        return self._hyper.update(self._slots[0].absent)

    def _refresh(self) -> None:
        """Follow changed settings; compiles only where an option was turned on or off."""
        for slot in self._slots:
            slot.by_rows = slot.by_rows and self._rows_mode(slot) is not None  # a decay may have been turned on
        self._by_rows = any(slot.by_rows for slot in self._slots)
        kinds: dict[tuple[Update, Layout, bool], list[Slot]] = {}
        for slot in self._slots:
            kinds.setdefault((self._hyper.update(slot.absent), slot.layout, slot.by_rows), []).append(slot)
        if self._sparse == "exact":
            from adamite.sparse.tables import refuse_inexact

            for update, *_ in kinds:
                refuse_inexact(type(self).__name__, lower(update))
        now = [(lower(update), by_rows, slots) for (update, _, by_rows), slots in kinds.items()]
        if now != [(b.graph, b.by_rows, b.slots) for b in self._batches]:
            self.flush()
            self._history = self._histories()
            table = CoefficientTable()
            self._batches = [self._batch(*kind, slots, table) for kind, slots in kinds.items()]
            for batch in self._batches:
                batch.start(self._history)
        for batch in self._batches:
            batch.read()
        self._inspects = self._hyper.settings.source("clip_norm") is not None or self._nonfinite != "propagate"
        self._hyper.stale = False

    def _batch(
        self, update: Update, layout: Layout, by_rows: bool, slots: list[Slot], table: CoefficientTable
    ) -> Batch:
        if by_rows and (mode := self._rows_mode(slots[0])) is not None:
            from adamite.numpy.sparse import RowsBatch

            return RowsBatch(update, layout, slots, self._hyper, table, mode)
        return MachineBatch(update, layout, slots, self._hyper, table)

    def _rows_mode(self, slot: Slot) -> Sparse | None:
        """What is done with a gradient of some of a parameter's rows."""
        from adamite.numpy.sparse import mode_of

        return mode_of(slot, self._hyper.update(slot.absent), self._sparse)

    # ---- rows

    @property
    def sparse(self) -> Sparse | None:
        """What is done with gradients of rows: lazy, exact, or None, which takes those that are dense steps anyway."""
        return self._sparse

    def flush(self, rows: Mapping[str, Any] | None = None) -> None:
        """Under sparse="exact", take rows without gradients to where dense gradients would have taken them.

        `state_dict` flushes by itself. Call it before you read or assign to the parameters.

        Args:
            rows: the numbers of the rows that are read next, by parameter name; by default all rows of all.

        Raises:
            TypeError, ValueError: for names that aren't parameters', and for indices that aren't rows'.

        >>> import numpy as np, adamite
        >>> table = np.ones((4, 2))
        >>> opt = adamite.AdamW({"words": table}, lr=0.1, sparse="exact")
        >>> opt.step({"words": adamite.Rows([0], np.ones((1, 2)))})
        >>> opt.flush()  # the others have decayed
        >>> table[:, 0].round(3).tolist()
        [0.899, 0.999, 0.999, 0.999]
        """
        wanted = None
        if rows is not None:
            from adamite.numpy.sparse import numbers_of_rows

            wanted = numbers_of_rows(self._slots, rows)
        for batch in self._batches:
            batch.flush(wanted)

    # ---- averages

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap the averaged weights in: `with opt.averaged(): evaluate(params)`.

        Raises:
            ValueError: where the optimizer keeps none (make it with ema=0.999).
        """
        if not self._hyper.ema:
            raise ValueError(f"{type(self).__name__} keeps no average of the weights; make it with ema=0.999")
        self._refuse_swapped()
        begin(self._unmoved)
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        exchange(self._slots)
        self._swapped = not self._swapped
        for batch in self._batches:
            batch.forget_places()

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """What the optimizer needs to continue in a later run: copies, by the parameters' names.

        The parameters' own values aren't in it; save them too. It is a dict of dicts, arrays and numbers, as pickle
        keeps it.

        >>> import numpy as np, adamite
        >>> opt = adamite.Adam({"w": np.zeros(3)}, lr=0.1)
        >>> opt.step({"w": np.ones(3)})
        >>> sorted(opt.state_dict()["parameters"]["w"])
        ['m', 'step', 'v']
        """
        self._refuse_swapped()
        self.flush()
        return saved(self._hyper, self._slots, self._histories(), self._skipped)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict` of the same rule and parameters.

        Numbers are taken over. A schedule must be the same here as when saved (one of your own functions can't be
        compared), and its own state, if it has one, is restored.

        Raises:
            StateDictError: where it doesn't fit: another rule, missing or unknown names, other shapes or types.
                The message lists the differences; nothing was loaded.
        """
        self._refuse_swapped()
        load = Loading(self._hyper, self._slots, self._history, state)
        load.apply()
        load.problems.tell()
        self._skipped = int(state["skipped"])
        self._unmoved = [slot for slot in self._slots if self._hyper.ema and not self._history[slot.name][0]]
        self._batches = []
        self._refresh()

    def _histories(self) -> dict[str, tuple[int, tuple[float, ...]]]:
        """The step number and the Scalar states of each parameter."""
        return {**self._history, **dict(item for b in self._batches for item in b.history())}

    def __deepcopy__(self, memo: dict[int, Any]) -> Optimizer:
        new = object.__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    def __getstate__(self) -> dict[str, Any]:
        self._refuse_swapped()
        state = dict(self.__dict__)
        state["_history"] = self._histories()
        # Not flushed: the parameters may have been copied already.
        state["_pending"] = dict(item for batch in self._batches for item in batch.pending())
        state["_batches"] = []
        state.pop("_ranges", None)  # addresses of this process
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        pending = state.pop("_pending")
        self.__dict__.update(state)
        self._refresh()
        for batch in self._batches:
            batch.resume(pending)

    def __reduce__(self) -> Any:
        made = type(self).__dict__.get("_pickled", (blank, (type(self),)))
        return (*made, self.__getstate__())

    def __repr__(self) -> str:
        """Every hyperparameter, and the options that aren't as they are by default."""
        hyper, decays = self._hyper, self._hyper.surroundings().decay is not None
        names = [*hyper.rule.numbers, *["weight_decay"] * decays, "clip_norm", *["ema"] * hyper.ema]
        shown: dict[str, Any] = {name: hyper.settings.source(name) for name in names} | hyper.choices
        options: dict[str, tuple[Any, Any]] = {
            "convention": (hyper.framework, "paper"),
            "decay": (hyper.decay, self._conventions[hyper.framework].decay if decays else hyper.decay),
            "nonfinite": (self.nonfinite, "propagate"),
            "maximize": (hyper.maximize, False),
            "sparse": (self.sparse, None),
            "groups": ([*self.groups], []),
        }
        shown |= {name: value for name, (value, default) in options.items() if value != default}
        settings = [
            f"{name}={value!r}" for name, value in (shown | hyper.storage.chosen()).items() if value is not None
        ]
        count = counted(len(self._slots), "parameter")
        return f"{type(self).__name__}({', '.join([count, *settings, f'steps={self.steps}'])})"


def blank(cls: type[Optimizer]) -> Optimizer:
    """An optimizer that is still to be filled, by pickle."""
    new: Optimizer = object.__new__(cls)
    return new
