"""The base class of the optimizers for Keras."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import is_
from typing import Any, ClassVar, NamedTuple

import keras
from keras import initializers, ops

from adamite.backends.arrays import Evaluation
from adamite.errors import StateDictError
from adamite.frontend.classes import Documented
from adamite.frontend.settings import unknown
from adamite.frontend.spelling import Spelling
from adamite.graph.idle import Factor, decays
from adamite.graph.lowering import lower
from adamite.keras import arrays, loading
from adamite.keras.loading import stepped
from adamite.keras.rows import Rows, rows_of, with_rows
from adamite.keras.settings import ClassSettings, Extras, Resolved
from adamite.language.rule import Rule
from adamite.language.update import Update
from adamite.storage import BFLOAT16, COMPENSATION, Format, Layout, choice
from adamite.storage.choice import Storage

together: Any = None
if arrays.BACKEND == "torch":
    from keras.src.backend import in_stateless_scope

    from adamite.keras import in_place
elif arrays.BACKEND == "jax":
    with suppress(ModuleNotFoundError):  # optax, which adamite.jax needs
        from adamite.keras import together

Coefficients = dict[tuple[Update, str], Sequence[Any]]  # by update and dtype of the computation


class _Part(NamedTuple):
    """What a step updates of one variable: all of it, or some rows."""

    stored: Mapping[str, Any]  # the variable and its states, by the rule's names
    rows: Rows | None  # if only some rows of a table are updated
    inputs: Mapping[str, Any]  # of the graph
    decays: Mapping[str, Factor]  # factors for the states of the other rows, by name


class _Prepared:
    """The graphs and coefficients of a step, which Keras hands to each `update_step` in place of the learning rate.

    It is no dict, since with several replicas TensorFlow would take one apart and sort its keys.
    """

    def __init__(self, coefficients: Coefficients) -> None:
        self._graphs = {key: (arrays.read(lower(key[0]), values), values) for key, values in coefficients.items()}

    def of(self, update: Update, dtype: str) -> tuple[Evaluation, Sequence[Any]]:
        """The graph that computes an update in a dtype, and its coefficients."""
        return self._graphs[update, dtype]


class _Cache:
    """What an optimizer derived from its attributes. Keras doesn't look for variables in an object like this."""

    values: tuple[Any, ...] = ()
    reading: Resolved
    in_place: in_place.InPlace | None = None
    rows: tuple[Any, ...] = ()


class Optimizer(keras.optimizers.Optimizer, metaclass=Documented):  # type: ignore[misc]
    _about = """The base of adamite's optimizers for Keras.

    Gradient accumulation, loss scaling, averages and constraints are Keras's own code.

    Args:
        clipnorm, clipvalue, global_clipnorm: in (0, inf), at most one of them: scale each gradient down to a norm, clip
            its values, or scale all gradients down to a global norm.
        use_ema, ema_momentum, ema_overwrite_frequency: keep an average of the weights, which replaces them at the end
            of the training, or every so many steps.
        loss_scale_factor: what the loss is multiplied by and the gradients are divided by.
        gradient_accumulation_steps: at least 2: update once in so many steps, with the mean of the gradients.
        name: the optimizer's name.
        state: the storage dtype of the optimizer state: "float32" (the default), "bfloat16" (half the memory) or "8bit"
            (a quarter), both rounded stochastically. On the torch backend, for CPU variables that are computed in
            float32. Variables of fewer than 4,096 elements keep float32 state.
        rounding: how bfloat16 variables are rounded: "nearest" (the default), which loses small steps; "stochastic"; or
            "kahan", which keeps what was lost beside the variable in two more bytes. On the torch backend.
        seed: in [0, 2**32), the seed of random rounding. The same seed gives the same bits on any number of threads.

    float16 and bfloat16 variables have float32 state unless `state` says otherwise.

    >>> import keras, adamite.keras
    >>> model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(optimizer=adamite.keras.AdamW(0.1), loss="mse")
    >>> history = model.fit(keras.ops.ones((8, 3)), keras.ops.ones((8, 1)), verbose=0)
    >>> int(model.optimizer.iterations)
    1
    """
    __doc__: str | None

    _spelling: ClassVar[Spelling]
    _settings: ClassVar[ClassSettings]
    _made_from: ClassVar[Rule | None] = None
    _pickled: ClassVar[tuple[Callable[..., Any], Rule]]  # for the class of a rule: how pickle makes an optimizer again
    _storage = Storage()

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "_spelling" in cls.__dict__:
            cls._settings = ClassSettings(cls.__name__, cls._spelling)

    def __init__(self, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        owner = type(self).__name__
        if not hasattr(type(self), "_spelling"):
            raise TypeError("Optimizer is the base: use Adam, SGD, ... or adamite.keras.optimizer(rule)")
        for name in options:
            if name not in Extras.__annotations__:
                raise TypeError(unknown(owner, name, [*given, *Extras.__annotations__]))
        storage = Storage(**{name: options[name] for name in Storage._fields if name in options})
        choice.check(owner, storage, [])
        if storage != Storage() and arrays.BACKEND != "torch":
            raise ValueError(
                f"{owner}: {_shown(storage)} is for Keras's torch backend, and this is {arrays.BACKEND}; leave it out "
                "or set KERAS_BACKEND=torch; to load a model that was saved with it: load_model(..., compile=False)"
            )
        options = {name: value for name, value in options.items() if name not in Storage._fields}
        checked = {name: self._settings.check(name, value) for name, value in {**given, **options}.items()}
        super().__init__(
            checked.pop("learning_rate", 1.0),
            weight_decay=checked.pop("weight_decay"),
            **{n: checked.pop(n) for n in options},
        )
        self._cache = _Cache()
        self._storage = storage
        for name, value in checked.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        for argument, names in self._spelling.arguments.items() if hasattr(type(self), "_spelling") else ():
            if name in names and name != argument:
                raise AttributeError(f"{type(self).__name__} has no {name}: it is {argument} here")
        if name in Storage._fields:
            raise AttributeError(f"{type(self).__name__}: {name} is chosen when an optimizer is made; make a new one")
        super().__setattr__(name, self._settings.check(name, value))

    # ---- states

    def build(self, variables: Sequence[Any]) -> None:
        """Make the states of these variables, in the order that Keras saves them in."""
        if self.built:
            return
        spelled, read = self._spelling, self._read()
        if self._storage != Storage():
            in_place.check(type(self).__name__, variables, self._storage)
            for variable in variables:  # refuses before anything is made
                self._layout(variable)
        super().build(variables)
        names = [name for name in spelled.states if name in read.plain.states]
        names += [name for name in read.plain.states if name not in names]
        self._slots = {name: [None] * len(variables) for name in names}
        together = [name for name in names if name not in spelled.apart]
        for block in (together, *([name] for name in names if name in spelled.apart)):
            for index, variable in enumerate(variables):
                if not getattr(variable, "overwrite_with_gradient", False):
                    for name in block:
                        self._slots[name][index] = self._slot(variable, name)
        if self._storage.rounding == "kahan":
            self._slots[COMPENSATION] = [
                self._narrow(v, COMPENSATION, 0.0, BFLOAT16) if COMPENSATION in self._layout(v).more else None
                for v in variables
            ]
        self._scalars = [
            self.add_variable(
                shape=(),
                initializer=initializers.Constant(self._starts[name]),
                dtype=arrays.scalar_type(),
                aggregation="only_first_replica",
                name=spelled.states.get(name, name),
            )
            for name in read.plain.scalars
        ]

    @property
    def _starts(self) -> Mapping[str, float | str]:
        return {state.name: state.start for state in self._spelling.convention.rule.states}

    def _slot(self, variable: Any, name: str) -> Any:
        """A new state of a variable. It starts at zero, a number, a hyperparameter's value, or the variable's value."""
        start = self._starts.get(name, 0.0)
        if self._storage != Storage() and (format := dict(self._layout(variable).states).get(name)):
            return self._narrow(variable, name, start, format)
        if start == "x":
            return self._made(variable, name, lambda shape, dtype, **_: ops.copy(ops.cast(variable, dtype)))
        value = self._read().numbers[start] if isinstance(start, str) else start
        return self._made(variable, name, lambda shape, dtype, **_: arrays.filled(shape, value, dtype))

    def _made(self, variable: Any, name: str, initializer: Any) -> Any:
        return self.add_variable_from_reference(
            variable, name=self._spelling.states.get(name, name), initializer=initializer
        )

    def _layout(self, variable: Any) -> Layout:
        """How a variable and its states are stored, on the torch backend."""
        return in_place.stored(type(self).__name__, variable, self._read().plain, self._storage)

    def _narrow(self, variable: Any, name: str, start: float | str, format: Format) -> Any:
        """A new state in a storage format of its own."""
        value = in_place.made(variable, start, self._read().numbers, format)
        path = f"{variable.path.replace('/', '_')}_{self._spelling.states.get(name, name)}"
        return super().add_variable(value.shape, lambda shape, dtype: value, dtype=value.dtype, name=path)

    def add_variable(self, shape: Any, initializer: Any = "zeros", dtype: Any = None, **more: Any) -> Any:
        """Add a variable of the optimizer: float32, where Keras would take float16 or bfloat16."""
        wide = arrays.compute_type(dtype or keras.config.floatx())
        return super().add_variable(shape, initializer, wide, **more)

    # ---- a step

    def _read(self) -> Resolved:
        """The settings as updates and numbers; read again if an attribute has changed."""
        cache, values = self._cache, (*(getattr(self, name) for name in self._settings.names), self.weight_decay)
        if cache.values != values:
            read = self._settings.read(values[:-1], self.weight_decay)
            made = [name for name in self._slots if name != COMPENSATION] if self.built else []
            if self.built and {*read.plain.states} != {*made}:
                raise ValueError(
                    f"{type(self).__name__} was built with the states {', '.join(made) or 'none'}, and needs "
                    f"{', '.join(read.plain.states) or 'none'} after what was assigned to it; make a new one"
                )
            cache.values, cache.reading = values, read
        return cache.reading

    def _update_of(self, variable: Any, read: Resolved) -> Update:
        decays = read.plain is not read.decaying and self._use_weight_decay(variable)
        return read.decaying if decays else read.plain

    def _apply_weight_decay(self, variables: Sequence[Any]) -> None:
        """Do nothing: weight decay is part of the update."""

    def _backend_apply_gradients(self, grads: Sequence[Any], trainable_variables: Sequence[Any]) -> None:
        if self.gradient_accumulation_steps or self.clipnorm or self.global_clipnorm or self.clipvalue:
            # So that sums and norms are computed in float32 at least.
            grads = list(map(arrays.plain, grads, trainable_variables))
        super()._backend_apply_gradients(grads, trainable_variables)

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        grads = list(grads)
        if len(grads) != len(trainable_variables):
            raise ValueError(
                f"{type(self).__name__}: there are {len(grads)} gradients for {len(trainable_variables)} variables; "
                "give one each"
            )
        if arrays.BACKEND == "torch" and not in_stateless_scope():
            in_place.outside_of_traces(self._step_in_place, grads, trainable_variables, learning_rate)
            return
        if self._storage != Storage():
            raise ValueError(
                f"{type(self).__name__}: {_shown(self._storage)} is for steps in place; call apply, or leave it out"
            )
        self._check_shapes(grads, trainable_variables)
        coefficients = self._coefficients(trainable_variables, learning_rate)
        if together is not None:
            self._step_together(grads, trainable_variables, coefficients)
        else:
            super()._backend_update_step(grads, trainable_variables, _Prepared(coefficients))

    def _check_shapes(self, grads: Sequence[Any], variables: Sequence[Any]) -> None:
        for g, v in zip(grads, variables):
            if not arrays.fits(g, v):
                name = getattr(v, "path", v.name)  # tf.Variable has no path
                raise ValueError(
                    f"{type(self).__name__}: the gradient of {name} has shape {arrays.shape(g)}, and the variable "
                    f"{tuple(v.shape)}"
                )

    def _step_in_place(self, grads: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        read, cache = self._read(), self._cache
        updates = [self._update_of(v, read) for v in variables]
        rows = (*variables, *updates)
        grads = in_place.tensors(grads)
        plan = cache.in_place
        if (
            plan is None
            or len(rows) != len(cache.rows)
            or not all(map(is_, rows, cache.rows))
            or not plan.stands(grads)
        ):
            slots, layouts = map(self._slots_of, variables), map(self._layout, variables)
            streams = map(self._storage.stream, map(self._get_variable_index, variables))
            types = [g.dtype for g in grads]
            listed = map(in_place.Row, variables, types, slots, updates, layouts, streams)
            cache.in_place = plan = in_place.InPlace(list(listed))
            cache.rows = rows
        if not plan.fits(grads):
            self._check_shapes(grads, variables)
        numbers = {**read.numbers, "lr": in_place.number(learning_rate)}
        scalars = [in_place.number(variable) for variable in self._scalars]
        new = plan.step(grads, in_place.number(self.iterations), numbers, scalars)
        for variable, value in zip(self._scalars, new, strict=True):
            variable.assign(value)

    def _slots_of(self, variable: Any) -> dict[str, Any]:
        index = self._get_variable_index(variable)
        return {name: slots[index] for name, slots in self._slots.items() if slots[index] is not None}

    def _step_together(self, grads: Sequence[Any], variables: Sequence[Any], coefficients: Coefficients) -> None:
        read = self._read()
        groups: dict[tuple[Update, str, int], list[int]] = {}
        listed: Counter[int] = Counter()  # a variable that is listed twice is updated twice, one after the other
        for index, variable in enumerate(variables):
            listed[id(variable)] += 1
            groups.setdefault((self._update_of(variable, read), variable.dtype, listed[id(variable)]), []).append(index)
        for (update, dtype, _), indices in groups.items():
            values = coefficients[update, arrays.compute_type(dtype)]
            parts = [self._part(grads[i], variables[i], update) for i in indices]
            columns = {name: [part.inputs[name] for part in parts] for name in parts[0].inputs}
            new = together.step(update, dtype, values, columns)
            for k, part in enumerate(parts):
                self._store(part, {name: column[k] for name, column in new.items()}, values)

    def _coefficients(self, variables: Sequence[Any], learning_rate: Any) -> Coefficients:
        """Compute this step's coefficients by update and dtype, and assign the new Scalar states."""
        read = self._read()
        types = sorted({arrays.compute_type(v.dtype) for v in variables})
        numbers = {**read.numbers, "lr": learning_rate}
        coefficients: Coefficients = {}
        for update in {self._update_of(v, read): None for v in variables}:
            rounded, scalars = arrays.coefficients(lower(update), self.iterations, numbers, self._scalars, types)
            coefficients |= {(update, dtype): values for dtype, values in rounded.items()}
        for variable, value in zip(self._scalars, scalars, strict=True):
            self.assign(variable, value)
        return coefficients

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Update one variable."""
        prepared = learning_rate
        if not isinstance(learning_rate, _Prepared):
            prepared = _Prepared(self._coefficients([variable], learning_rate))
        update, dtype = self._update_of(variable, self._read()), arrays.compute_type(variable.dtype)
        evaluation, coefficients = prepared.of(update, dtype)
        part = self._part(gradient, variable, update)
        new = arrays.step(evaluation, part.inputs, dtype)
        if part.rows is None and dtype == variable.dtype:
            self.assign_sub(variable, new.pop("x"))
        else:
            new["x"] = ops.cast(part.inputs["x"], dtype) - new["x"]
        self._store(part, new, coefficients)

    def _part(self, gradient: Any, variable: Any, update: Update) -> _Part:
        """All of a variable; or some rows of it, if the gradient has rows and the rule leaves the others alone."""
        stored = {"x": variable, **self._slots_of(variable)}
        compute = arrays.compute_type(variable.dtype)
        factors = decays(lower(update))
        rows = None if factors is None else rows_of(gradient, compute)
        if factors is None or rows is None:
            return _Part(stored, None, {"g": arrays.dense(gradient, variable), **stored}, {})
        inputs = {"g": rows.gradients, **{name: rows.of(table, compute) for name, table in stored.items()}}
        return _Part(stored, rows, inputs, factors)

    def _store(self, part: _Part, new: Mapping[str, Any], coefficients: Sequence[Any]) -> None:
        """Assign the results of a step. The states of the other rows decay."""
        for name, value in new.items():
            variable = part.stored[name]
            if part.rows is not None and name in part.decays:
                decayed = variable * ops.cast(part.decays[name](coefficients), variable.dtype)
                value = part.rows.put(decayed, value)
            elif part.rows is not None:
                value = part.rows.assigned(variable, value)
            self.assign(variable, value)

    def assign(self, variable: Any, value: Any) -> None:
        """Assign a value, or rows of a table."""
        super().assign(variable, with_rows(variable, value))

    def _overwrite_model_variables_with_average_value(self, trainable_variables: Sequence[Any]) -> None:
        super()._overwrite_model_variables_with_average_value(trainable_variables)
        if arrays.BACKEND == "jax":  # where a variable and its average may not share a buffer
            for variable in trainable_variables:
                variable.assign(ops.copy(variable))

    # ---- saving and loading

    def get_config(self) -> dict[str, Any]:
        """A config from which `from_config` makes the same optimizer, without its states."""
        config = super().get_config()
        if "learning_rate" not in self._spelling.arguments:
            del config["learning_rate"]
        return {**config, **{name: getattr(self, name) for name in self._settings.names}, **self._storage.chosen()}

    def __repr__(self) -> str:
        """Every hyperparameter, and the options that differ from their defaults."""
        config, usual = self.get_config(), {"use_ema": False, "ema_momentum": 0.99}
        del config["name"]
        shown = {n: v for n, v in config.items() if n in self._settings.names or v != usual.get(n)}
        rate = shown.get("learning_rate")
        if isinstance(rate, float):
            shown["learning_rate"] = float(f"{rate:.7g}")  # Keras keeps it in float32
        words = (f"{n}=<{v['class_name']}>" if isinstance(v, dict) else f"{n}={v!r}" for n, v in shown.items())
        return f"{type(self).__name__}({', '.join(words)})"

    def __reduce__(self) -> Any:
        """A copy is made from the config, unbuilt, like Keras's. It has the step count only if there are no states."""
        make, kind = type(self).__dict__.get("_pickled", (again, type(self)))
        steps = int(ops.convert_to_numpy(self.iterations)) if self._keeps_nothing() else 0
        return make, (kind, keras.saving.serialize_keras_object(self), steps)

    def load_own_variables(self, store: Any) -> None:
        """Restore saved states; if they don't fit, change nothing and warn.

        Keras calls this while it loads a model, whose weights should be loaded in any case.
        """
        try:
            self._load(lambda i: store[str(i)], len(store.keys()))
        except StateDictError as error:
            warnings.warn(str(error), UserWarning, stacklevel=2)

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Restore the values of `variables`.

        Raises:
            StateDictError: where their number or shapes don't fit; nothing was set.
        """
        if not self.built:
            super().set_weights(weights)  # which says so
        self._load(lambda i: weights[i], len(weights))

    def _load(self, saved: Callable[[int], Any], count: int) -> None:
        """Assign the saved values if all of them fit."""
        owner = type(self).__name__
        variables = [v for v in (self._iterations, self._learning_rate) if isinstance(v, keras.Variable)]
        # Before the first step neither side needs more than these two.
        if count != len(variables) or stepped(saved(0)) or stepped(self._iterations):
            variables = self.variables
            loading.check_count(owner, count, len(variables), self.built or self._keeps_nothing())
        states = {
            id(slot): (name, variable)
            for name, column in (self._slots.items() if self.built else ())
            for variable, slot in zip(self._trainable_variables, column, strict=True)
        }
        targets = [loading.Target(variable, *states.get(id(variable), ("", None))) for variable in variables]
        loading.load(owner, targets, saved, self._adapted)

    def _adapted(self, value: Any, name: str, of: Any) -> Any:
        """A saved state in the format of this optimizer, if either is 8-bit."""
        return in_place.adapted(value, of, name, self._layout(of), self._read().plain)

    def _keeps_nothing(self) -> bool:
        """Whether building adds no variables, as for SGD without momentum."""
        update, kahan = self._read().plain, self._storage.rounding == "kahan"
        return not (update.states or update.scalars or kahan or self.use_ema or self.gradient_accumulation_steps)


def _shown(storage: Storage) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in storage.chosen().items())


def register(cls: type[Optimizer], name: str | None = None) -> type[Optimizer]:
    """Let Keras find a class again when it loads a model."""
    registered: type[Optimizer] = keras.saving.register_keras_serializable("adamite", name)(cls)
    return registered


def again(cls: type[Optimizer], config: dict[str, Any], steps: int) -> Optimizer:
    """An optimizer made from its config, with this step count; for pickle."""
    registered = {config["registered_name"]: cls}
    new: Optimizer = keras.saving.deserialize_keras_object(
        config, registered, safe_mode=False
    )  # no more than pickle itself does
    new.iterations.assign(steps)
    return new
