"""Which of adamite's extras installs a package."""

_EXTRAS = {
    "lab": ("expecttest", "gymnasium", "matplotlib", "plotly", "rich", "scipy", "sklearn", "typer"),
    "torch": ("torch",),
    "jax": ("jax", "optax"),
    "keras": ("keras",),
    "ray": ("ray",),
    "tensorboard": ("tensorboardX",),
}
WHERE = {module: f"'adamite[{extra}]'" for extra, modules in _EXTRAS.items() for module in modules}
WHERE["tensorflow"] = "tensorflow"  # Keras's default backend


def advice(module: str | None) -> str:
    """What to do if a module is missing."""
    if module in WHERE:
        return f"this command needs {module}; install it with: pip install {WHERE[module]}"
    return f"there is no module {module} here"
