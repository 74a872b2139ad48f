"""The numbers that Holdfast holds, each measured against a named reference in the same run: `python -m bench`."""
