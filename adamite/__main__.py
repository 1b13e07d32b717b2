"""``python -m adamite``: the same as the command ``adamite``."""

from adamite.cli import main

if __name__ == "__main__":
    main()
