"""What must be done next, after the commit that asked for it.

Session-bound effects (a generation above 0) die with that generation and the decider decides again; the others are
replay-safe and are redone. The id is derived from what the effect is about, so that it exists once.
"""

from __future__ import annotations

import msgspec


class OpenSession(msgspec.Struct, frozen=True, tag="open_session"):
    session_id: str
    generation: int
    agent: str


class SendPrompt(msgspec.Struct, frozen=True, tag="send_prompt"):
    run_id: str
    attempt: int
    generation: int


class SendAnswer(msgspec.Struct, frozen=True, tag="send_answer"):
    request_id: str
    generation: int


class SendInterrupt(msgspec.Struct, frozen=True, tag="send_interrupt"):
    run_id: str
    attempt: int
    generation: int


class StopSession(msgspec.Struct, frozen=True, tag="stop_session"):
    """`gentle`: close the input first (idle, shutdown); else terminate at once."""

    session_id: str
    generation: int
    gentle: bool


class AskHistory(msgspec.Struct, frozen=True, tag="ask_history"):
    run_id: str
    attempt: int
    session_id: str


class LetGo(msgspec.Struct, frozen=True, tag="let_go"):
    """A session has ended: measure its native history, and let the runner compress its journal."""

    session_id: str
    native_id: str


Effect = OpenSession | SendPrompt | SendAnswer | SendInterrupt | StopSession | AskHistory | LetGo

_decoder = msgspec.json.Decoder(Effect)


def identity(effect: Effect) -> str:
    """The same effect has the same id, wherever and however often it is made."""
    match effect:
        case OpenSession() | StopSession() | LetGo():
            return f"{effect.__struct_config__.tag}:{effect.session_id}"
        case SendAnswer():
            return f"send_answer:{effect.request_id}:{effect.generation}"
        case SendPrompt() | SendInterrupt():
            return f"{effect.__struct_config__.tag}:{effect.run_id}:{effect.attempt}:{effect.generation}"
        case AskHistory():
            return f"ask_history:{effect.run_id}:{effect.attempt}"


def bound_to(effect: Effect) -> int:
    """The generation that the effect dies with; 0 for replay-safe ones."""
    match effect:
        case AskHistory() | LetGo():
            return 0
        case _:
            return effect.generation


def encode(effect: Effect) -> bytes:
    return msgspec.json.encode(effect)


def decode(data: bytes) -> Effect:
    result: Effect = _decoder.decode(data)
    return result
