"""Gradient transformations of optax whose update is one operation, made from a rule."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adamite.backends.complex_numbers import MAY, over_complex
from adamite.errors import RuleError
from adamite.frontend.conventions import Spelling
from adamite.frontend.settings import check_choice, check_function, check_number
from adamite.graph.lowering import lower
from adamite.graph.nodes import Graph
from adamite.graph.stages import halves
from adamite.jax.call import COMPUTE, EXACT, FORMATS, Columns, as_complex, call, dtype_of, is_complex
from adamite.jax.leaves import Gradients, as_complex_as, cast, format_of, is_function, wide
from adamite.jax.schedules import at
from adamite.language.rule import Choice, Number, Rule
from adamite.language.update import WEIGHT_DECAY, Surroundings, build
from adamite.schedules.form import Schedule
from adamite.schedules.plateau import refuse_metrics
from adamite.storage import Format, Layout

Tree = Any
P = ParamSpec("P")
R = TypeVar("R")
_COUNTS = {"ScaleByScheduleState": "lr", "WeightDecaySchedule": "weight_decay"}  # the others count steps
_ORDER = "It is step(params, state, grads), and update(updates, state, params); init(params) makes the state"


def _told(method: Callable[P, R]) -> Callable[P, R]:
    """Let a call with too few arguments, or too many, say how it is called."""
    form = inspect.signature(method)

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except TypeError:
            try:
                form.bind(*args, **kwargs)
            except TypeError as error:
                owner: Any = args[0]
                name = owner.update.__self__.name
                raise TypeError(f"{name}: {method.__name__} can't be called so, {error}. {_ORDER}") from None
            raise

    return call


class Transformation(optax.GradientTransformationExtraArgs):  # type: ignore[misc]
    """An optax gradient transformation, with the step that writes in place.

    `init` and `update` are optax's; chain, mask, accumulate and inject it as any other.
    """

    @_told
    def step(self, params: Tree, state: Tree, grads: Tree) -> tuple[Tree, Tree]:
        """Move the parameters: `optax.apply_updates(params, update(...))` in one pass over memory.

        Args:
            params: a tree of arrays.
            state: of `init` or of the step before.
            grads: gradients, a tree as the parameters.

        Returns:
            The new parameters, and the new state. Where both are donated to a jitted function they are written in
            place; let it take and return them in the same order, by which JAX pairs what is donated with what is
            returned, or it has to copy.
        """
        core: Core = self.update.__self__
        return core.step(params, state, grads)


class State(NamedTuple):
    """What a rule of one's own keeps: the steps done, and trees as the parameters by the states' names."""

    count: jax.Array  # type: ignore[assignment]
    states: dict[str, Tree]
    scalars: dict[str, jax.Array]


class Leaves(NamedTuple):
    """Leaves that are updated together."""

    layout: Layout
    decays: bool
    indices: list[int]


class Core:
    """One transformation: its rule, its numbers, and how its states lie in optax's."""

    def __init__(
        self,
        name: str,
        spelling: Spelling,
        given: Mapping[str, Any],
        start: Callable[[Tree], Tree],
        mask: Any = None,
        ranges: Mapping[str, str] = MappingProxyType({}),
        made_by: tuple[Any, ...] = (),
    ) -> None:
        self.name, self.spelling, self.given, self.start, self.mask = name, spelling, given, start, mask
        self.made_by = made_by  # a function, and its arguments: what pickle writes
        self.ranges = ranges  # of arguments, where they aren't the rule's
        self.rule = spelling.convention.rule
        for flag, other in spelling.switches.items():
            if given.get(flag):
                self.rule = other
        convention = spelling.convention
        self.numbers: dict[str, Any] = {
            n: convention.default(n) for n in self.rule.numbers if convention.default(n) is not None
        }
        for argument, (own,) in spelling.arguments.items():
            value = self._checked(argument, self.rule.numbers[own], given[argument])
            if value is None or (own in spelling.without and _is_zero(value)):
                self.numbers.pop(own, None)
            else:
                self.numbers[own] = value
        decay = self._checked("weight_decay", WEIGHT_DECAY, given.get("weight_decay", 0.0))
        self.decay = None if _is_zero(decay) else convention.decay
        self.numbers["weight_decay"] = decay
        self.choices = tuple(
            (own, self._chosen(choice, given.get(own, convention.default(own))))
            for own, choice in self.rule.choices.items()
        )
        self.absent = frozenset(self.rule.numbers) - set(self.numbers)

    def _checked(self, argument: str, spec: Number, value: Any) -> Any:
        """A number in its range, a schedule, or what JAX traces."""
        if value is None and spec.optional:
            return None
        refuse_metrics(
            self.name,
            argument,
            value,
            "chain optax.contrib.reduce_on_plateau, or set a number under optax.inject_hyperparams",
        )
        if callable(value):
            check_function(self.name, argument, value, "step")
        if isinstance(value, jax.core.Tracer) or (callable(value) and not isinstance(value, Schedule)):
            return value
        if isinstance(value, jax.Array) and value.ndim == 0:
            value = value.item()
        spec = spec._replace(name=argument)
        spec = spec.within(self.ranges.get(argument, spec.range))
        if isinstance(value, Schedule):
            check_number(f"{self.name}, at step 0 of its schedule", spec, value(0))
            return value
        return check_number(self.name, spec, value)

    def _chosen(self, choice: Choice, value: Any) -> Any:
        check_choice(self.name, choice.name, choice.allowed, value)
        return value

    def __deepcopy__(self, memo: dict[int, Any]) -> Core:
        return self  # as functions do: nothing of it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made_by

    # ---- states

    @_told
    def init(self, params: Tree) -> Tree:
        """The state before the first step; moments are float32 at least, and complex where the parameter is."""
        for format in {format_of(self.name, leaf) for leaf in jax.tree.leaves(params)}:
            if is_complex(format):
                self._graph(format)  # which refuses what has no meaning then
        found = _Found(self.start(jax.tree.map(wide, params)))
        for name in self.numbers:
            self._at(name, found)  # which refuses a schedule that can't be read
        # A type that was asked for, as mu_dtype, may be one of real numbers.
        fields = {
            field: jax.tree.map(as_complex_as, found.fields[field], params) for field in map(self._field, self._states)
        }
        return found.with_fields(fields)

    def transformation(self) -> Transformation:
        return Transformation(self.init, self.update)

    # ---- steps

    @_told
    def update(self, updates: Tree, state: Tree, params: Tree | None = None, **extra: Any) -> tuple[Tree, Tree]:
        """The updates to be added to the parameters, made of the gradients, and the new state."""
        return self._run(updates, state, params, moves=False)

    def step(self, params: Tree, state: Tree, grads: Tree) -> tuple[Tree, Tree]:
        return self._run(grads, state, params, moves=True)

    def _run(self, grads: Tree, state: Tree, params: Tree | None, moves: bool) -> tuple[Tree, Tree]:
        found = self._found(state, {"params": params, "grads" if moves else "updates": grads})
        if params is None and (moves or self.decay or self.rule.uses_x):
            raise ValueError(optax._src.base.NO_PARAMS_MSG)
        rows = Gradients(self.name, grads)
        xs = None if params is None else rows.beside("parameter", params)
        slots = {own: rows.beside(f"state {self._field(own)}", found.fields[self._field(own)]) for own in self._states}
        new = {own: list(column) for own, column in slots.items()}
        moved = list(xs) if moves and xs is not None else [None] * len(rows.leaves)
        scalars: dict[str, Any] = {}
        for leaves in self._together(rows, xs, slots, params):
            layout = leaves.layout
            graph = self._graph(layout.x, leaves.decays, moves)
            coefficients, scalars = self._coefficients(graph, layout, found)
            inputs = {"g": rows.leaves, **({} if xs is None else {"x": xs}), **slots}
            columns = {
                name: [cast(column[i], dtype_of(layout.of(name))) for i in leaves.indices]
                for name, column in inputs.items()
            }
            run = call if moves or is_complex(layout.x) else _direction
            results = run(graph, layout, coefficients, columns)
            for k, i in enumerate(leaves.indices):
                moved[i] = results["x" if moves else "g"][k]
                for own in self._states:
                    new[own][i] = results[own][k].astype(slots[own][i].dtype)
        fields = {self._field(own): rows.like(column) for own, column in new.items()}
        if scalars:
            fields["scalars"] = scalars
        return rows.like(moved), found.with_fields(fields, steps=1)

    @functools.cached_property
    def _states(self) -> tuple[str, ...]:
        return build(self.rule, self.choices, self.absent).states

    def _graph(self, format: Format, decays: bool = False, moves: bool = True) -> Graph:
        """The update of leaves that are stored so."""
        around = Surroundings(decay=self.decay if decays else None, moves=moves)
        graph = lower(build(self.rule, self.choices, self.absent, around))
        if not is_complex(format):
            return graph
        try:
            return over_complex(graph, frozenset(state.name for state in self.rule.states if state.start == "x"))
        except RuleError as error:
            raise RuleError(
                f"{self.name} can't update {format.name} parameters: its rule {error}. Over complex numbers a rule may "
                f"{MAY}; mask such leaves"
            ) from None

    def _found(self, state: Tree, others: Mapping[str, Tree]) -> _Found:
        """The fields of a state, which must be those that init makes; what else was given, if it isn't one."""
        found = _Found(state)
        problem = self._problem(found)
        if problem:
            elsewhere = [name for name, other in others.items() if not self._problem(_Found(other))]
            made = "give one that init of the same transformation made"
            advice = f"what was given as {elsewhere[0]} is one" if elsewhere else made
            raise ValueError(f"{self.name}: the state {problem}; {advice}. {_ORDER}")
        for own in self._states:
            for leaf in jax.tree.leaves(found.fields[self._field(own)]):
                if jnp.result_type(leaf) not in FORMATS:
                    raise TypeError(f"{self.name}: the state {self._field(own)} is of {jnp.result_type(leaf)}")
        return found

    def _problem(self, found: _Found) -> str:
        """Why it is no state of this transformation; nothing where it is one."""
        if not isinstance(found.state, tuple):
            return f"is a {type(found.state).__name__}"
        lacks = [f"has no {self._field(own)}" for own in self._states if self._field(own) not in found.fields]
        known = {"scalars", *(self.spelling.states.get(state.name) for state in self.rule.states)}
        strange = [f"has {field}" for field in found.fields if field not in known]
        return " and ".join(lacks + strange + [f"has a {other} among its parts" for other in found.others[:1]])

    def _field(self, own: str) -> str:
        return self.spelling.states[own]

    def _together(
        self, rows: Gradients, xs: Sequence[Any] | None, slots: Mapping[str, Sequence[Any]], params: Tree
    ) -> list[Leaves]:
        """Leaves of one layout, with or without decay."""
        decays = [self.decay is not None] * len(rows.leaves)
        if self.decay is not None and self.mask is not None:
            decays = rows.spread(self.mask(params) if is_function(self.mask) else self.mask)
        groups: dict[Any, Leaves] = {}
        for i, (g, decay) in enumerate(zip(rows.leaves, decays, strict=True)):
            if g is not None:
                states = {self._field(own): column[i] for own, column in slots.items()}
                layout = self._layout(functools.partial(rows.name, i), g, None if xs is None else xs[i], states)
                groups.setdefault((layout, decay), Leaves(layout, decay, [])).indices.append(i)
        return list(groups.values())

    def _layout(self, name: Callable[[], str], g: Any, x: Any, states: Mapping[str, Any]) -> Layout:
        """How a leaf is stored: as its parameter, or as the gradient where parameters aren't given."""
        gradient = format_of(self.name, g, name)
        if x is None:
            complexes = any(map(jnp.iscomplexobj, states.values()))
            format = as_complex(gradient) if complexes else gradient
        else:
            format = format_of(self.name, x, name)
        if not is_complex(format):
            if is_complex(gradient):
                raise TypeError(
                    f"{self.name}: the gradient{name()} is {gradient.name}, and its parameter {format.name}: give the "
                    "gradient's real part"
                )
            return Layout(format).with_gradient(gradient)
        for field, state in states.items():
            if not jnp.iscomplexobj(state):
                raise TypeError(
                    f"{self.name}: the state {field}{name()} is {jnp.result_type(state)}, and its parameter "
                    f"{format.name}; give a state that init made"
                )
        gradient = as_complex(gradient)
        return Layout(format, wide=gradient if gradient.itemsize > format.itemsize else None)

    def _coefficients(self, graph: Graph, layout: Layout, found: _Found) -> tuple[jax.Array, dict[str, Any]]:
        """In float64, rounded once; and the new Scalar states."""
        real = np.finfo(COMPUTE[layout.compute]).dtype
        names = graph.numbers[: len(graph.numbers) - len(graph.scalars)]
        t = found.counts.get("t", 0)
        numbers = [self._at(name, found) for name in names]
        scalars = [found.fields["scalars"][name] for name in graph.scalars]
        if any(isinstance(value, jax.core.Tracer) for value in (t, *numbers, *scalars)):
            with jax.enable_x64(True):
                wide = [jnp.asarray(value, jnp.float64) for value in (t, *numbers, *scalars)]
                wide[0] = wide[0] + 1.0
                values: Any = graph.program.run(EXACT, wide)
                vector = jnp.stack([jnp.asarray(v, jnp.float64) for v in values[: graph.coefficient_count]])
                vector = vector.astype(real)
        else:
            values = graph.evaluate(float(t) + 1.0, *map(float, numbers), *map(float, scalars))
            vector = jnp.asarray(values[: graph.coefficient_count], real)
        left = map(_float64, values[graph.coefficient_count :])
        return vector, dict(zip(graph.scalars, left, strict=True))

    def _at(self, name: str, found: _Found) -> Any:
        value = self.numbers[name]
        if not callable(value):
            return value
        count = found.counts.get(name, found.counts.get("t"))
        if count is None:
            raise ValueError(
                f"{self.name}: {self._argument(name)} can't be a schedule, since the state counts no steps; use "
                "optax.inject_hyperparams"
            )
        value = at(value, count)
        if value is None or jnp.ndim(value):
            what = "None" if value is None else f"an array of shape {jnp.shape(value)}"
            raise ValueError(f"{self.name}: the schedule of {self._argument(name)} gave {what}, and must give a number")
        return value

    def _argument(self, own: str) -> str:
        return next((name for name, (number,) in self.spelling.arguments.items() if number == own), own)


def _direction(graph: Graph, layout: Layout, coefficients: Any, columns: Columns) -> dict[str, list[Any]]:
    """In halves where that can be: then XLA fuses the direction with what is done to it, and it needs no memory."""
    parts = halves(graph)
    if parts is None:
        return call(graph, layout, coefficients, columns)
    states = call(parts.states, layout, coefficients, columns) if parts.states.outputs else {}
    return {**states, **call(parts.direction, layout, coefficients, {**columns, **states}, fused=True)}


class _Found:
    """The fields of a state's named tuples, however they are nested."""

    def __init__(self, state: Tree) -> None:
        self.state = state
        self.fields: dict[str, Any] = {}
        self.counts: dict[str, Any] = {}
        self.others: list[str] = []  # types of what no state has
        self._walk(state)

    def _walk(self, state: Any) -> None:
        if not isinstance(state, tuple):
            self.others.append(type(state).__name__)
            return
        for name, value in zip(getattr(state, "_fields", [None] * len(state)), state):
            if name == "count":
                self.counts[_COUNTS.get(type(state).__name__, "t")] = value
            elif name is not None and name != "inner_state":
                self.fields |= value if name == "states" else {name: value}
            else:
                self._walk(value)

    def with_fields(self, fields: Mapping[str, Any], steps: int = 0) -> Tree:
        """The state with these fields, its counts so many more."""
        return _replaced(self.state, {**self.fields, **fields}, steps)


def _replaced(state: Any, fields: Mapping[str, Any], steps: int) -> Any:
    if not isinstance(state, tuple):
        return state
    names = getattr(state, "_fields", None)
    if names is None:
        return tuple(_replaced(part, fields, steps) for part in state)
    new = []
    for name, value in zip(names, state):
        if name == "count":
            new.append(optax.safe_increment(value) if steps else value)
        elif name == "states":
            new.append({own: fields[own] for own in value})
        else:
            new.append(fields[name] if name in fields else _replaced(value, fields, steps))
    return type(state)(*new)


def start_of_rule(rule: Rule, given: Mapping[str, Any]) -> Callable[[Tree], State]:
    """What makes the first state of a rule of one's own."""

    def start(params: Tree) -> State:
        def make(begin: float | str) -> Tree:
            if begin == "x":
                return params
            value = given[begin] if isinstance(begin, str) else begin
            return jax.tree.map(lambda x: jnp.full_like(x, value), params)

        scalars = {s.name: _float64(s.start) for s in rule.states if s.scalar}
        states = {s.name: make(s.start) for s in rule.states if not s.scalar}
        return State(jnp.zeros([], jnp.int32), states, scalars)

    return start


def _float64(value: Any) -> jax.Array:
    """A number as a Scalar state is kept, whatever JAX computes in."""
    with jax.enable_x64(True):
        return jnp.asarray(value, jnp.float64)


def _is_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == 0
