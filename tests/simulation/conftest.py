"""How many seeds, and one of them alone: `pytest tests/simulation --seed 1234`, `--seeds 20000`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=None, help="simulate this seed alone, and tell what happens")
    group.addoption("--seeds", type=int, default=None, help="how many seeds to simulate")
