"""x"""
from collections.abc import Iterator
from bench.figures import Row
def measure(quick: bool) -> Iterator[Row]:
    yield from ()
