"""optax gradient transformations made from a rule, whose update is one operation."""

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
from adamite.frontend.settings import check_choice, check_function, check_number
from adamite.frontend.spelling import Spelling, is_zero
from adamite.graph.lowering import lower
from adamite.graph.nodes import Graph
from adamite.graph.stages import halves
from adamite.jax.call import COMPUTE, EXACT, FORMATS, Columns, as_complex, call, dtype_of, is_complex
from adamite.jax.leaves import Gradients, as_complex_as, cast, format_of, is_function, wide
from adamite.jax.schedules import at
from adamite.language.rule import Number, Rule
from adamite.language.update import WEIGHT_DECAY, Surroundings
from adamite.schedules.form import Schedule
from adamite.schedules.plateau import refuse_metrics
from adamite.storage import Format, Layout

Tree = Any
P = ParamSpec("P")
R = TypeVar("R")
# In other states `count` is the step number.
_COUNTS = {"ScaleByScheduleState": "lr", "WeightDecaySchedule": "weight_decay"}
_ORDER = "It is step(params, state, grads), and update(updates, state, params); init(params) makes the state"


def _told(method: Callable[P, R]) -> Callable[P, R]:
    """Add the order of the arguments to the error of a call with too few or too many."""
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
    """An optax gradient transformation with a `step` that works in place.

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
    """The state of a user's own rule: the number of steps, and for each of its states a tree like the parameters."""

    count: jax.Array  # type: ignore[assignment]
    states: dict[str, Tree]
    scalars: dict[str, jax.Array]


class Leaves(NamedTuple):
    """Leaves that are updated together."""

    layout: Layout
    decays: bool
    indices: list[int]


class Core:
    """One transformation: its rule, its numbers, and where its states are in optax's."""

    def __init__(
        self,
        spelling: Spelling,
        given: Mapping[str, Any],
        start: Callable[[Tree], Tree],
        mask: Any = None,
        ranges: Mapping[str, str] = MappingProxyType({}),
        made_by: tuple[Any, ...] = (),
    ) -> None:
        self.name = spelling.name
        self.spelling, self.given, self.start, self.mask = spelling, given, start, mask
        self.made_by = made_by  # a function and its arguments, for pickle
        self.ranges = ranges  # of arguments that have another range than the rule's numbers
        rule = spelling.rule(given)
        numbers = {
            argument: self._checked(argument, rule.numbers[name], given[argument])
            for argument, (name,) in spelling.arguments.items()
        }
        for name in rule.choices.keys() & given.keys():
            check_choice(self.name, name, rule.choices[name].allowed, given[name])
        self.meaning = spelling.read({**given, **numbers})
        self.rule = rule
        decay = self._checked("weight_decay", WEIGHT_DECAY, given.get("weight_decay", 0.0))
        self.decay = None if is_zero(decay) else spelling.convention.decay
        self.numbers = {**self.meaning.numbers, "weight_decay": decay}

    def _checked(self, argument: str, spec: Number, value: Any) -> Any:
        """A number in its range, a schedule, or a traced value."""
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

    def __deepcopy__(self, memo: dict[int, Any]) -> Core:
        return self  # immutable, so it can be shared, as functions are

    def __reduce__(self) -> tuple[Any, ...]:
        return self.made_by

    # ---- states

    @_told
    def init(self, params: Tree) -> Tree:
        """The state before the first step; moments are float32 at least, and complex where the parameter is."""
        for format in {format_of(self.name, leaf) for leaf in jax.tree.leaves(params)}:
            if is_complex(format):
                self._graph(format)  # refuses rules that have no meaning for complex numbers
        parts = _Parts(self.start(jax.tree.map(wide, params)))
        for name in self.numbers:
            self._at(name, parts)  # refuses a schedule that can't be evaluated
        # A dtype that the user asked for, such as mu_dtype, may be real.
        fields = {
            field: jax.tree.map(as_complex_as, parts.fields[field], params) for field in map(self._field, self._states)
        }
        return parts.with_fields(fields)

    def transformation(self) -> Transformation:
        return Transformation(self.init, self.update)

    # ---- steps

    @_told
    def update(self, updates: Tree, state: Tree, params: Tree | None = None, **extra: Any) -> tuple[Tree, Tree]:
        """The updates, which are to be added to the parameters, and the new state."""
        return self._run(updates, state, params, moves=False)

    def step(self, params: Tree, state: Tree, grads: Tree) -> tuple[Tree, Tree]:
        return self._run(grads, state, params, moves=True)

    def _run(self, grads: Tree, state: Tree, params: Tree | None, moves: bool) -> tuple[Tree, Tree]:
        parts = self._parts_of(state, {"params": params, "grads" if moves else "updates": grads})
        if params is None and (moves or self.decay or self.rule.uses_x):
            raise ValueError(optax._src.base.NO_PARAMS_MSG)
        rows = Gradients(self.name, grads)
        xs = None if params is None else rows.beside("parameter", params)
        slots = {
            name: rows.beside(f"state {self._field(name)}", parts.fields[self._field(name)]) for name in self._states
        }
        new = {name: list(column) for name, column in slots.items()}
        moved = list(xs) if moves and xs is not None else [None] * len(rows.leaves)
        scalars: dict[str, Any] = {}
        for leaves in self._together(rows, xs, slots, params):
            layout = leaves.layout
            graph = self._graph(layout.x, leaves.decays, moves)
            coefficients, scalars = self._coefficients(graph, layout, parts)
            inputs = {"g": rows.leaves, **({} if xs is None else {"x": xs}), **slots}
            columns = {
                name: [cast(column[i], dtype_of(layout.of(name))) for i in leaves.indices]
                for name, column in inputs.items()
            }
            run = call if moves or is_complex(layout.x) else _direction
            results = run(graph, layout, coefficients, columns)
            for k, i in enumerate(leaves.indices):
                moved[i] = results["x" if moves else "g"][k]
                for name in self._states:
                    new[name][i] = results[name][k].astype(slots[name][i].dtype)
        fields = {self._field(name): rows.like(column) for name, column in new.items()}
        if scalars:
            fields["scalars"] = scalars
        return rows.like(moved), parts.with_fields(fields, steps=1)

    @functools.cached_property
    def _states(self) -> tuple[str, ...]:
        return self.meaning.update(Surroundings()).states

    def _graph(self, format: Format, decays: bool = False, moves: bool = True) -> Graph:
        """The graph for leaves of a format."""
        around = Surroundings(decay=self.decay if decays else None, moves=moves)
        graph = lower(self.meaning.update(around))
        if not is_complex(format):
            return graph
        try:
            return over_complex(graph, frozenset(state.name for state in self.rule.states if state.start == "x"))
        except RuleError as error:
            raise RuleError(
                f"{self.name} can't update {format.name} parameters: its rule {error}. Over complex numbers a rule may "
                f"{MAY}; mask such leaves"
            ) from None

    def _parts_of(self, state: Tree, others: Mapping[str, Tree]) -> _Parts:
        """The fields of a state. If it isn't a state of this transformation, the error says which other argument is."""
        parts = _Parts(state)
        problem = self._problem(parts)
        if problem:
            elsewhere = [name for name, other in others.items() if not self._problem(_Parts(other))]
            made = "give one that init of the same transformation made"
            advice = f"what was given as {elsewhere[0]} is one" if elsewhere else made
            raise ValueError(f"{self.name}: the state {problem}; {advice}. {_ORDER}")
        for name in self._states:
            for leaf in jax.tree.leaves(parts.fields[self._field(name)]):
                if jnp.result_type(leaf) not in FORMATS:
                    raise TypeError(f"{self.name}: the state {self._field(name)} is of {jnp.result_type(leaf)}")
        return parts

    def _problem(self, parts: _Parts) -> str:
        """Why this isn't a state of this transformation; empty if it is one."""
        if not isinstance(parts.state, tuple):
            return f"is a {type(parts.state).__name__}"
        lacks = [f"has no {self._field(name)}" for name in self._states if self._field(name) not in parts.fields]
        allowed = {"scalars", *(self.spelling.states.get(state.name) for state in self.rule.states)}
        strange = [f"has {field}" for field in parts.fields if field not in allowed]
        return " and ".join(lacks + strange + [f"has a {other} among its parts" for other in parts.others[:1]])

    def _field(self, name: str) -> str:
        return self.spelling.states[name]

    def _together(
        self, rows: Gradients, xs: Sequence[Any] | None, slots: Mapping[str, Sequence[Any]], params: Tree
    ) -> list[Leaves]:
        """Group the leaves by layout and by whether they decay."""
        decays = [self.decay is not None] * len(rows.leaves)
        if self.decay is not None and self.mask is not None:
            decays = rows.spread(self.mask(params) if is_function(self.mask) else self.mask)
        groups: dict[Any, Leaves] = {}
        for i, (g, decay) in enumerate(zip(rows.leaves, decays, strict=True)):
            if g is not None:
                states = {self._field(name): column[i] for name, column in slots.items()}
                layout = self._layout(functools.partial(rows.name, i), g, None if xs is None else xs[i], states)
                groups.setdefault((layout, decay), Leaves(layout, decay, [])).indices.append(i)
        return list(groups.values())

    def _layout(self, name: Callable[[], str], g: Any, x: Any, states: Mapping[str, Any]) -> Layout:
        """The layout of a leaf: its parameter's, or its gradient's if no parameters were given."""
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

    def _coefficients(self, graph: Graph, layout: Layout, parts: _Parts) -> tuple[jax.Array, dict[str, Any]]:
        """The coefficients, computed in float64 and rounded once, and the new Scalar states."""
        real = np.finfo(COMPUTE[layout.compute]).dtype
        names = graph.numbers[: len(graph.numbers) - len(graph.scalars)]
        t = parts.counts.get("t", 0)
        numbers = [self._at(name, parts) for name in names]
        scalars = [parts.fields["scalars"][name] for name in graph.scalars]
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

    def _at(self, name: str, parts: _Parts) -> Any:
        value = self.numbers[name]
        if not callable(value):
            return value
        count = parts.counts.get(name, parts.counts.get("t"))
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

    def _argument(self, number_name: str) -> str:
        return next((name for name, (number,) in self.spelling.arguments.items() if number == number_name), number_name)


def _direction(graph: Graph, layout: Layout, coefficients: Any, columns: Columns) -> dict[str, list[Any]]:
    """Compute states and direction apart if possible, since XLA then fuses the direction with what uses it."""
    parts = halves(graph)
    if parts is None:
        return call(graph, layout, coefficients, columns)
    states = call(parts.states, layout, coefficients, columns) if parts.states.outputs else {}
    return {**states, **call(parts.direction, layout, coefficients, {**columns, **states}, fused=True)}


class _Parts:
    """The fields of a state's named tuples, however they are nested."""

    def __init__(self, state: Tree) -> None:
        self.state = state
        self.fields: dict[str, Any] = {}
        self.counts: dict[str, Any] = {}
        self.others: list[str] = []  # types of values that no state has
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
        """The state with these fields, and with its counts advanced by `steps`."""
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
            new.append({state_name: fields[state_name] for state_name in value})
        else:
            new.append(fields[name] if name in fields else _replaced(value, fields, steps))
    return type(state)(*new)


def start_of_rule(rule: Rule, given: Mapping[str, Any]) -> Callable[[Tree], State]:
    """A function that makes the first state of a user's own rule."""

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
    """A Scalar state: float64, even if x64 is off."""
    with jax.enable_x64(True):
        return jnp.asarray(value, jnp.float64)
