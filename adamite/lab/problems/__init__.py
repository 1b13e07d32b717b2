"""Problems to train on, one file each: where its data come from, a start, a loss, a gradient."""

NAMES = (
    *("regression", "digits"),  # the article's program, and a small network
    *("quadratic", "rosenbrock", "beale", "logistic"),  # whose minimum is known
    *("mnist", "characters", "embeddings", "factorisation"),  # that learn from data
    *("gan", "cartpole", "reddi"),  # that aren't the minimum of one loss, or mislead
)

# By name, where each is: a problem's libraries are imported with it.
PROBLEMS = {name: f"adamite.lab.problems.{name}:problem" for name in NAMES}
