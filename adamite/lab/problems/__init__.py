"""Problems to train on, one file each: where its data come from, a start, a loss, a gradient."""

# By name, where each is: a problem's libraries are imported with it.
PROBLEMS = {name: f"adamite.lab.problems.{name}:problem" for name in ("regression", "digits")}
