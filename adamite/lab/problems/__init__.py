"""Problems to train on, a file each: its data, initial parameters, loss and gradient."""

NAMES = (
    *("regression", "digits"),  # the article's program, and a small network
    *("quadratic", "rosenbrock", "beale", "logistic"),  # with a known minimum
    *("mnist", "characters", "embeddings", "factorisation"),  # that learn from data
    *("gan", "cartpole", "reddi"),  # that minimize no single loss, or mislead
)

# The place of each, by name: a problem's libraries are imported with it.
PROBLEMS = {name: f"adamite.lab.problems.{name}:problem" for name in NAMES}
