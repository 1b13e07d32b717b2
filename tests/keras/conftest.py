"""Keras takes its backend when it is imported: what is in checks.py runs in a process a backend (test_backends.py)."""

collect_ignore = ["checks.py"]
