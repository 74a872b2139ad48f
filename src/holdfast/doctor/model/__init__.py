"""The scripted model: a language model on loopback whose answers are written in the prompt.

It owns what `doctor`, `holdfast agents --check` and the tests need to drive a real agent without a
network and without a key: it speaks the agents' own model protocols (one module per protocol), picks its
answer by a marker in the prompt (`scripts`), and keeps a log of what it was asked (`log`).
It never reaches out, never listens on anything but 127.0.0.1, and knows no agent by name.

Use it in the process (`async with ScriptedModel() as model`), or as a process of its own
(`python -m holdfast.doctor.model`).
"""

from holdfast.doctor.model.log import Asked
from holdfast.doctor.model.server import ScriptedModel

__all__ = ["Asked", "ScriptedModel"]
