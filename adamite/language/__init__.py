"""What a rule is written in, and how it is read."""
