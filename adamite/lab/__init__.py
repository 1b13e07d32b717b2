"""The laboratory: problems to train on, comparisons, and the reports made of them. Never prints."""
