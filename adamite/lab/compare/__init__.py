"""Compares optimizers on one problem: tuned equally, then trained from several seeds."""
