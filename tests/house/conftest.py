"""A house per test, with a scripted model to point its agents at; both end with the test."""

from collections.abc import AsyncIterator

import pytest

from holdfast.doctor.model import ScriptedModel
from tests.house.house import House


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with ScriptedModel() as model, House(model) as house:
        yield house
