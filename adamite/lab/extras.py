"""Which extra of adamite's brings a package, for those who lack it."""

_EXTRAS = {
    "lab": ("expecttest", "gymnasium", "matplotlib", "plotly", "rich", "scipy", "sklearn", "typer"),
    "torch": ("torch",),
    "jax": ("jax", "optax"),
    "keras": ("keras",),
    "ray": ("ray",),
    "tensorboard": ("tensorboardX",),
}
WHERE = {module: f"'adamite[{extra}]'" for extra, modules in _EXTRAS.items() for module in modules}
WHERE["tensorflow"] = "tensorflow"  # which Keras takes where KERAS_BACKEND says nothing else


def advice(module: str | None) -> str:
    """What to do where a module is missing."""
    if module in WHERE:
        return f"this command needs {module}; install it with: pip install {WHERE[module]}"
    return f"there is no module {module} here"
