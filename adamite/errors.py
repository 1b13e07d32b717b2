"""The errors that adamite adds to Python's own ValueError and TypeError."""


class RuleError(TypeError):
    """A rule that can't be read: the message names the rule, the file and the line."""


class StateDictError(ValueError):
    """A state dict that doesn't fit the optimizer; nothing was loaded."""


class NonFiniteError(ArithmeticError):
    """A gradient with NaN or infinity under ``nonfinite="raise"``; nothing was changed."""
