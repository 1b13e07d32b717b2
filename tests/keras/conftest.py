"""Keras takes its backend when it is imported: these run in a process a backend (test_backends.py)."""

collect_ignore = ["checks.py", "storage.py"]
