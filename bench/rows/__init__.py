"""One module per kind of measurement; `__main__` has the list."""
