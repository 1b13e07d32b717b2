"""Rows of tables, and the steps that rows have missed."""
