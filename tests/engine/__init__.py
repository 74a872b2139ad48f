"""Parts of the engine by themselves; the whole of it is in `tests/simulation` and `tests/house`."""
