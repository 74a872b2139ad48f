"""The core against an arbitrary world: whatever comes, in whatever order, the laws hold and every run ends."""

from hypothesis import HealthCheck, Phase, settings

from tests.core.machine import ThreadMachine

TestThread = ThreadMachine.TestCase
TestThread.settings = settings(
    max_examples=300,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
