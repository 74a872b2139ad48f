"""What the server asks of a protocol module: to read requests and to write answers. Pure.

A further protocol is one module that offers a `Dialect`, and one name in `app.DIALECTS`.
"""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from holdfast.doctor.model.answers import Answer, Pause, Refusal, Silence
from holdfast.doctor.model.conversation import Conversation

Json = dict[str, object]
Frame = bytes | Pause | Silence
"""A piece of the response, or how long there is none."""


class Dialect(msgspec.Struct, frozen=True):
    """One protocol of language models."""

    path: str
    """The route, with `{model}` where the protocol has the model's name in it."""
    read: Callable[[Json, Mapping[str, str], str], Conversation]
    """From body, headers and path; ValueError where the request is not valid."""
    stream: Callable[[Answer, Conversation], Iterator[Frame]]
    whole: Callable[[Answer, Conversation], Json]
    refuse: Callable[[Refusal], Json]
    asides: Mapping[str, Callable[[Conversation], Json]] = {}
    """Further routes that are answered at once from the same kind of request (counting tokens)."""
