"""An update in primitive operations: how it is made, and what is read from it."""
