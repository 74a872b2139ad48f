"""The scripts: which answer a conversation gets. Pure.

The newest prompt's last marker picks the script; a prompt without one is greeted, except that a prompt
asking to `continue` does the last script over again. A script that calls tools goes on after each result,
counted since the prompt, and closes with words when it has no more calls. A prompt folded in while a script
is at work changes it only if it carries a marker itself. Every closing answer ends with `users=N`, the number
of prompts seen, so that resume, fork and rollback can be checked from outside.
"""

import json
import re
import shlex
from collections.abc import Callable, Sequence

from holdfast.doctor.model import tools
from holdfast.doctor.model.answers import Answer, Call, Pause, Refusal, Say, Silence, Step, Think
from holdfast.doctor.model.conversation import Called, Conversation, Entry, Note, Prompt, Result, Said
from holdfast.doctor.model.markers import Marker, find_markers

_REMEMBER = re.compile(r"\bremember\s+([\w-]+)", re.IGNORECASE)
_CONTINUE = re.compile(r"\bcontinue\b", re.IGNORECASE)
_PIECE = 32

STATUS_MESSAGES = {
    400: "scripted: the request is not valid",
    401: "scripted: the key is not valid",
    429: "scripted: too many requests",
    500: "scripted: internal error",
    529: "scripted: overloaded",
}


class Chosen:
    """A script picked for a conversation: its marker, and how far it has got."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        prompts = conversation.prompts()
        self.users = len(prompts)
        at = _ruling_prompt(conversation.entries)
        ruling = conversation.entries[at] if at >= 0 else Prompt("")
        self.prompt = ruling.text if isinstance(ruling, Prompt) else ""
        self.marker = _pick(self.prompt, prompts)
        after = conversation.entries[at + 1 :]
        self.results = [entry for entry in after if isinstance(entry, Result)]
        self.called = [entry.tool for entry in after if isinstance(entry, Called)]


def _ruling_prompt(entries: Sequence[Entry]) -> int:
    """The place of the prompt that picks the script, or -1."""
    for at in range(len(entries) - 1, -1, -1):
        entry = entries[at]
        if isinstance(entry, Prompt) and not (entry.steered and not find_markers(entry.text)):
            return at
    return -1


def _is_woken(entries: Sequence[Entry]) -> bool:
    """Whether a background task's report started this turn: nothing but notes since our last closing words."""
    spoken = [at for at, entry in enumerate(entries) if not isinstance(entry, Note)]
    since = entries[spoken[-1] + 1 :] if spoken else entries
    ended = not spoken or isinstance(entries[spoken[-1]], Said)
    return ended and any(isinstance(entry, Note) and entry.wakes for entry in since)


def choose_answer(conversation: Conversation, refusals: int = 0) -> Answer | Refusal:
    """The answer to a conversation; `refusals` is how often this very prompt was already refused."""
    chosen = Chosen(conversation)
    if _is_woken(conversation.entries):
        return Answer("woken", _closing(chosen, "A background task reported."))
    script = _SCRIPTS.get(chosen.marker.name)
    if script is None:
        steps = _closing(chosen, f"I know no script {chosen.marker.name!r}.")
        return Answer(chosen.marker.name, steps)
    name = chosen.marker.name
    try:
        return _error(chosen, refusals) if name == "error" else Answer(name, tuple(script(chosen)))
    except ValueError as error:
        reason = f"cannot read {chosen.marker.arguments[:200]!r}: because {error}."
        return Answer(name, _closing(chosen, reason))


def _pick(prompt: str, prompts: Sequence[str]) -> Marker:
    if own := find_markers(prompt):
        return own[-1]
    if _CONTINUE.search(prompt):
        for text in reversed(prompts):
            if earlier := find_markers(text):
                return earlier[-1]
    return Marker("hello")


def _closing(chosen: Chosen, text: str) -> tuple[Step, ...]:
    return (Say(text), Say(f" users={chosen.users}"))


def _hello(chosen: Chosen) -> Sequence[Step]:
    if find_markers(chosen.prompt) or not chosen.prompt:
        return _closing(chosen, "Hello from the scripted model.")
    echo = " ".join(chosen.prompt.split())[:60]
    return _closing(chosen, f"Hello from the scripted model. You said: {echo}.")


def _recall(chosen: Chosen) -> Sequence[Step]:
    words = [word for text in chosen.conversation.prompts() for word in _REMEMBER.findall(text)]
    return _closing(chosen, f"I remember: {' '.join(words) or 'nothing'}.")


def _one_call(chosen: Chosen, call: Call | None) -> Sequence[Step]:
    """A tool call first, and words once its result is there."""
    if call is None:
        return _closing(chosen, f"No tool offered fits {chosen.marker.name}.")
    if not chosen.results:
        return (Say(f"Calling {call.tool}."), call)
    result = chosen.results[-1]
    outcome = "failed" if result.is_error else "answered"
    return _closing(chosen, f"{call.tool} {outcome}: {result.text[:200]}.")


def _bash(chosen: Chosen) -> Sequence[Step]:
    return _one_call(chosen, tools.shell(chosen.conversation, chosen.marker.arguments))


def _background(chosen: Chosen) -> Sequence[Step]:
    return _one_call(chosen, tools.shell(chosen.conversation, chosen.marker.arguments, background=True))


def _parallel(chosen: Chosen) -> Sequence[Step]:
    """Several commands called in one answer."""
    if chosen.results:
        return _closing(chosen, f"{len(chosen.results)} results.")
    commands = chosen.marker.parts(";;")
    calls = [call for command in commands if (call := tools.shell(chosen.conversation, command))]
    return (Say("Calling several."), *calls)


def _write(chosen: Chosen) -> Sequence[Step]:
    path, _, body = chosen.marker.arguments.partition("|")
    return _one_call(chosen, tools.write(chosen.conversation, path.strip(), body))


def _read(chosen: Chosen) -> Sequence[Step]:
    return _one_call(chosen, tools.read(chosen.conversation, chosen.marker.arguments.strip()))


def _ask(chosen: Chosen) -> Sequence[Step]:
    question, *labels = chosen.marker.parts("|") or ["Which colour?"]
    return _one_call(chosen, tools.ask(chosen.conversation, question, labels or ["Red", "Blue"]))


def _subagent(chosen: Chosen) -> Sequence[Step]:
    return _one_call(chosen, tools.subagent(chosen.conversation, chosen.marker.arguments, wait=False))


def _subagent_wait(chosen: Chosen) -> Sequence[Step]:
    return _one_call(chosen, tools.subagent(chosen.conversation, chosen.marker.arguments, wait=True))


def _plan(chosen: Chosen) -> Sequence[Step]:
    """What the agent wants done to present a plan, one call after the other, none twice."""
    text = chosen.marker.arguments or "1. Look around\n2. Do it"
    calls = tools.plan(chosen.conversation, text)
    left = [call for call in calls if call.tool not in chosen.called]
    if not left:
        return _one_call(chosen, calls[-1] if calls else None)
    return (Say(f"Calling {left[0].tool}."), left[0])


def _todo(chosen: Chosen) -> Sequence[Step]:
    points = chosen.marker.parts("|") or ["Look around", "Do it"]
    return _one_call(chosen, tools.todo(chosen.conversation, points))


def _tool(chosen: Chosen) -> Sequence[Step]:
    name, _, arguments = chosen.marker.arguments.partition("|")
    return _one_call(chosen, Call(name.strip(), json.loads(arguments or "{}")))


def _steps(chosen: Chosen) -> Sequence[Step]:
    """Calls one after the other; python sleeps because agents' shells refuse a bare sleep."""
    count, seconds = _numbers(chosen.marker, 3, 0)
    done = len(chosen.results)
    if done >= count:
        return _closing(chosen, f"{done} steps done.")
    sleep = f"import time; time.sleep({seconds:g}); print('step {done + 1}')"
    call = tools.shell(chosen.conversation, f"python3 -c {shlex.quote(sleep)}")
    if call is None:
        return _closing(chosen, "No tool offered fits steps.")
    return (Say(f"Step {done + 1} of {count:g}."), call)


def _slow(chosen: Chosen) -> Sequence[Step]:
    count, delay = _numbers(chosen.marker, 10, 0.1)
    steps: list[Step] = []
    for at in range(1, int(count) + 1):
        steps += [Say(f"word{at} "), Pause(delay)]
    return (*steps, *_closing(chosen, "done."))


def _text(chosen: Chosen) -> Sequence[Step]:
    (count,) = _numbers(chosen.marker, 1000)
    return (*map(Say, _pieces(int(count))), *_closing(chosen, ""))


def _big(chosen: Chosen) -> Sequence[Step]:
    """One piece of text of that many bytes, so that one frame is as large."""
    (size,) = _numbers(chosen.marker, 1_000_000)
    return (Say("".join(_pieces(int(size)))), *_closing(chosen, ""))


def _think(chosen: Chosen) -> Sequence[Step]:
    thought = chosen.marker.arguments or "I am thinking in a scripted way."
    return (*(Think(piece) for piece in re.findall(r"\S+\s*", thought)), *_closing(chosen, "Thought."))


def _hang(chosen: Chosen) -> Sequence[Step]:
    """Silence at once, or after the text given."""
    return (Say(chosen.marker.arguments), Silence()) if chosen.marker.arguments else (Silence(),)


def _chain(chosen: Chosen) -> Sequence[Step]:
    """Scripts one after the other: each tool result brings the next one on."""
    links = chosen.marker.parts(";;") or ["SCRIPT:hello"]
    done = len(chosen.results)
    link = links[min(done, len(links) - 1)]
    chosen.marker = (find_markers(link) or find_markers(f"SCRIPT:{link}") or [Marker("hello")])[-1]
    chosen.results = [] if done < len(links) else chosen.results
    script = _SCRIPTS.get(chosen.marker.name, _hello)
    return script(chosen)


def _error(chosen: Chosen, refusals: int) -> Answer | Refusal:
    """Refused `times` times, then answered; without `times` refused for ever."""
    code, times = _numbers(chosen.marker, 500, -1)
    if times < 0 or refusals < times:
        status = int(code)
        return Refusal("error", status, STATUS_MESSAGES.get(status, "scripted: error"))
    return Answer("error", _closing(chosen, f"Answered after {refusals} errors."))


def _numbers(marker: Marker, *defaults: float) -> list[float]:
    given = [float(part) for part in marker.parts()]
    return [*given, *defaults[len(given) :]][: len(defaults)]


def _pieces(count: int) -> list[str]:
    """Numbered pieces, so that a piece lost or swapped can be seen in the text."""
    width = _PIECE - 1
    pieces = [f"{at:0{width}d} " for at in range(count // _PIECE)]
    return pieces + (["x" * (count % _PIECE)] if count % _PIECE else [])


_SCRIPTS: dict[str, Callable[[Chosen], Sequence[Step]]] = {
    "ask": _ask,
    "background": _background,
    "bash": _bash,
    "big": _big,
    "chain": _chain,
    "error": _hello,
    "hang": _hang,
    "hello": _hello,
    "parallel": _parallel,
    "plan": _plan,
    "read": _read,
    "recall": _recall,
    "slow": _slow,
    "steps": _steps,
    "subagent": _subagent,
    "subagent_wait": _subagent_wait,
    "text": _text,
    "think": _think,
    "todo": _todo,
    "tool": _tool,
    "write": _write,
}
