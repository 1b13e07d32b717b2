"""Where adamite.torch, adamite.keras and adamite.jax depart from what they stand in for, on purpose: what, and why."""

from __future__ import annotations

from typing import NamedTuple


class Difference(NamedTuple):
    """One departure."""

    what: str
    why: str


TORCH = (
    Difference(
        "differentiable=True is refused",
        "the step is machine code, which autograd can't look into (TestDifferentiableOptimizer, and the inputs of "
        "test_optim.py's other tests that say it)",
    ),
    Difference(
        "capturable=True, and a step while a CUDA graph is captured, are refused",
        "step numbers and coefficients are computed on the host, and a replayed graph would repeat old ones",
    ),
    Difference(
        "torch.compile doesn't trace a step, nor what else an optimizer does: they run as they are",
        "it is machine code already; torch refuses it under fullgraph=True, and counts one graph less (dynamo's "
        "test_optimizing_over_tensor_with_requires_grad)",
    ),
    Difference(
        "foreach and fused are accepted and change nothing",
        "there is one engine; combinations that torch refuses are refused, but fused steps of tensors on the meta "
        "device work (test_fused_error_on_params_on_meta)",
    ),
    Difference(
        "torch's tests that mock its own functions don't apply",
        "they ask which of torch's kernels was called, not what came out",
    ),
    Difference(
        "centered RMSprop never takes the root of a negative number",
        "torch's variance falls below zero by rounding where gradients are constant, and its weights become NaN",
    ),
    Difference(
        "float16 and bfloat16 parameters keep float32 moments, and are computed in float32 and rounded once",
        "torch keeps them in the parameter's type, where second moments vanish or stop decaying",
    ),
    Difference(
        "load_state_dict matches by name where both sides have names, whatever wrappers put into them, checks shapes, "
        "keeps types, copies",
        "torch matches by position, unchecked, casts to the parameter's type, and shares the tensors",
    ),
    Difference(
        "gradients of other strides, and nesterov's, are never misread or written",
        "torch's fused steps permute the first, its foreach step writes the second",
    ),
    Difference(
        "a state below 16 times the smallest normal number counts as zero",
        "arithmetic on subnormal numbers is many times slower",
    ),
    Difference("NAdam's mu_product is float64", "torch's float32 product is off by 1e-9 after a few steps"),
    Difference(
        "clip_norm divides by the norm; clip_grad_norm_ by the norm + 1e-6",
        "the clipped gradients' norm is the one that was asked for",
    ),
    Difference(
        'without sparse="lazy" or "exact" sparse gradients of SGD with momentum or decay are made dense for the step',
        "the numbers are those of dense gradients; plain SGD and Adagrad step on the rows alone, as in torch",
    ),
    Difference(
        "isinstance(optimizer, torch.optim.Adam) is False, of torch.optim.Optimizer True",
        "the classes share torch's base, not its steps",
    ),
    Difference(
        "betas of any sequence of two numbers are taken, and kept as a tuple",
        "torch takes no integers and no float32 of NumPy's, and keeps a group's as they were given",
    ),
    Difference(
        "found_inf other than 0 leaves a step out, and grad_scale is taken, in every class and without fused=True",
        "torch's fused steps alone read them, and of found_inf 1 alone",
    ),
    Difference("a parameter listed twice gives SGD's second listing no first step", "it has a momentum by then"),
)

KERAS = (
    Difference(
        "a saved state of other shapes is left out with a warning, as one of another number of variables is",
        "of the first Keras has loaded a part when it raises, amid the loading of the model",
    ),
    Difference(
        "float16 and bfloat16 variables have float32 states, and are computed in float32 and rounded once",
        "Keras computes in the variable's type; bfloat16's beta_2 is 1, and Adam never moves, float16's squares of "
        "small gradients are 0, and it leaps",
    ),
    Difference("bias corrections are float64, rounded once", "in Keras's float32 1 − 0.999 is off by 1e-5 already"),
    Difference(
        "where the machine code runs, a state below 16 times the smallest normal number counts as zero",
        "arithmetic on subnormal numbers is many times slower",
    ),
    Difference(
        "every hyperparameter has its range, also when it is assigned",
        "a wrong one is told at once, not by NaN later, in one form of words for all; Keras's own words are asked for "
        "by its tests test_weight_decay_is_none (AdamW), test_invalid_beta_1 (Lion), test_invalid_momentum (SGD)",
    ),
    Difference(
        "Nadam's product of momenta is a float64 variable, with no attribute of its own",
        "it is rounded once, where it meets an array; Keras's test_build_with_empty_var_list asks for a _u_product in "
        "float32",
    ),
    Difference(
        "after an assignment that would need other states (momentum, amsgrad) the next step is refused",
        "there is no momentum to go on with; Keras's step breaks off, Adam's with its moments changed",
    ),
    Difference(
        "what a row of a sparse gradient has more than once is summed",
        "TensorFlow's are squared one by one in Keras, where a token that is twice in a batch counts as two gradients; "
        "at torch's four of Keras's classes fail",
    ),
    Difference(
        "isinstance(optimizer, keras.optimizers.Adam) is False, of keras.optimizers.Optimizer True",
        "the classes share Keras's base, not its steps",
    ),
)

# What explains a failure of one of optax's own tests names it.
JAX = (
    Difference(
        "float16 and bfloat16 parameters have float32 moments, unless mu_dtype asks for others, and are computed in "
        "float32 and rounded once",
        "optax keeps them in the parameter's type, where second moments vanish or stop decaying, as its "
        "test_explicit_dtype asks with bfloat16 parameters",
    ),
    Difference(
        "bias corrections are float64, rounded once",
        "in float32 1 − 0.999 is off by 1e-5 already; optax's test_schedule_free_adamw holds its own against ours",
    ),
    Difference(
        "where the machine code runs, a state below 16 times the smallest normal number counts as zero",
        "arithmetic on subnormal numbers is many times slower",
    ),
    Difference(
        "centered RMSprop never takes the root of a negative number",
        "optax's variance falls below zero by rounding where gradients are constant, and its weights become NaN",
    ),
    Difference(
        "adadelta needs a learning_rate",
        "without one optax's climbs; what its alias_test.py runs of adadelta with no arguments fails here",
    ),
    Difference(
        "adadelta's squares are of the modulus, where numbers are complex",
        "optax squares the complex numbers, and the loss of a parabola climbs; its test_optimization leaves that out",
    ),
    Difference(
        "a real mu_dtype or accumulator_dtype is the type of a complex moment's parts, float32 at least",
        "optax drops the imaginary parts; its test_explicit_dtype asks for that, with complex64 parameters",
    ),
    Difference(
        "numbers out of their range and states of other shapes are refused when they are given",
        "optax goes on with them",
    ),
    Difference(
        "leaves that aren't of floating-point or complex numbers are refused",
        "mask them; the parameters of optax's test_extra_args are whole numbers",
    ),
)
