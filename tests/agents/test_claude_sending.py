"""What we write to Claude Code, frame by frame, exactly."""

import json
from typing import Any

from inline_snapshot import snapshot

from holdfast.agents.port import Begin, Image, Intent, Interrupt, Prompt
from tests.agents.claude_frames import KIND, Session, scene


def written(intent: Intent) -> list[tuple[str, Any]]:
    writes = KIND.translator(scene(), None).send(intent, 0.0)
    assert all(b"\n" not in write.data for write in writes)
    return [(write.id, json.loads(write.data)) for write in writes]


def test_the_handshake_puts_a_hook_before_every_tool_without_a_time_limit() -> None:
    """A hook that is not answered in time lets the agent give up (measured): it waits as long as we do."""
    assert written(Begin()) == snapshot(
        [
            (
                "begin",
                {
                    "type": "control_request",
                    "request_id": "begin",
                    "request": {
                        "subtype": "initialize",
                        "hooks": {"PreToolUse": [{"matcher": "*", "hookCallbackIds": ["gate"]}]},
                    },
                },
            )
        ]
    )


def test_a_prompt_carries_our_reference() -> None:
    assert written(Prompt("u-1", "hello\nworld")) == snapshot(
        [
            (
                "prompt:u-1",
                {
                    "type": "user",
                    "message": {"role": "user", "content": "hello\nworld"},
                    "parent_tool_use_id": None,
                    "session_id": "",
                    "uuid": "u-1",
                },
            )
        ]
    )


def test_pictures_come_before_the_words() -> None:
    ((_, frame),) = written(Prompt("u-1", "look", [Image("image/png", "AAAA"), Image("image/gif", "BBBB")]))
    assert frame["message"]["content"] == snapshot(
        [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "BBBB"}},
            {"type": "text", "text": "look"},
        ]
    )
    ((_, frame),) = written(Prompt("u-1", "", [Image("image/png", "AAAA")]))
    assert [block["type"] for block in frame["message"]["content"]] == ["image"]


def test_an_interrupt_is_the_same_write_however_often_it_is_asked_for() -> None:
    """A bare interrupt is ignored by the program: it is a control request."""
    assert written(Interrupt("run_1.1")) == snapshot(
        [
            (
                "interrupt:run_1.1",
                {
                    "type": "control_request",
                    "request_id": "interrupt:run_1.1",
                    "request": {"subtype": "interrupt"},
                },
            )
        ]
    )


def test_sending_changes_no_state() -> None:
    session = Session()
    translator = KIND.translator(session.scene, session.state)
    before = translator.dump()
    for intent in (Begin(), Prompt("u", "x"), Interrupt("i")):
        translator.send(intent, 0.0)
    assert translator.dump() == before == session.state
