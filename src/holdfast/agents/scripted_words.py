"""The words of the scripted agent's scripts: what a prompt can make it do. Pure, standard library alone.

Owns the words, how a prompt is read, and `Out`, the values by which anything is done. It performs nothing and knows
no clock; `scripted_mind.py` runs a script as a generator that yields what it waits for.

A script is the lines of a prompt, separated by newlines or `;;`; of several scripts in one prompt, the one after
the last line `script:`. A prompt without a word from this list is greeted; beside such words any other line is said.

    say TEXT · text N [PIECE [DELAY_MS]] · slow N DELAY_S · big BYTES · flood BYTES [PIECE]      what it says: N
        characters in pieces; N words; one frame of that size; as fast as it can · think TEXT     reasoning
    bash CMD · write PATH TEXT      asks, then does it · run CMD      does it without asking
    ask [kind=KIND] TITLE[|TITLE]   asks all of them at once · question [HEADER:] TEXT[|A|B] [&& ...]
        `*TEXT` takes several, `...` as the last answer a text of one's own · plan TEXT      proposes a plan
    todo a,>b,+c (open, being done, done) · notice TEXT · sleep S · remember WORD · recall
    wake S TEXT · later [S] LINE    after the turn, S seconds later, a turn that nobody asked for
    fail CLASS [RETRY_AT|+S] MESSAGE   the turn fails: agent_error, usage_limit, auth, context_full
    crash [SIGNAL] (9) · exit [CODE] (0) · nonewline_exit     ends itself; the last one in the middle of a frame
    lost · unseen                   dies before, after it notes the prompt; once in a conversation
    hang · deaf · stubborn          no more output; ignores interrupts; and SIGTERM and the end of its input too
    noise N · halfline [TEXT] · splitutf8 · stderr TEXT|BYTES      lines, pauses and bytes that readers trip over
    child CMD · heir CMD            leaves a process running, in a session of its own or with our pipes
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator

TYPE_CHECKING = False  # importing typing for it would cost 5 ms of every start
if TYPE_CHECKING:
    from typing import Any

    from holdfast.agents.scripted_mind import ScriptedMind

    Message = dict[str, Any]
    Wait = float | tuple[str, ...]  # seconds, or the requests and tools of which any may answer; (): for ever
    Script = Generator[Wait, Message, None]
    Words = list[tuple[str, str]]

PASS_BYTES = 64 * 1024  # what a script writes at most before it lets others have a word
BIG_BYTES_MAX = 256 * 1024 * 1024
SPLIT_PAUSE_S = 0.05
PIECE = 32
SIGKILL = 9


class Out:
    """One thing for the process to do, in order.

    `out`: write `data` to standard output · `err`: to standard error · `note`: append it to the native history ·
    `run`: start it as the command of the tool `ref`, answer with `host.output` and `host.done` · `end`: end that
    command · `write`: write it to `path`, answer with `host.done` · `child`, `heir`: leave it running · `stubborn`:
    ignore SIGTERM · `exit`: with `code` · `kill`: with the signal `code`.
    """

    __slots__ = ("code", "data", "do", "path", "ref")

    def __init__(self, do: str, data: bytes = b"", ref: str = "", code: int = 0, path: str = "") -> None:
        self.do, self.data, self.ref, self.code, self.path = do, data, ref, code, path

    def __repr__(self) -> str:
        return f"Out({self.do!r}, {self.data!r}, {self.ref!r}, {self.code}, {self.path!r})"


class Ended(Exception):
    """Ends the turn from inside a script."""

    def __init__(self, status: str, failure: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.failure = status, failure


def encode(value: Message) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def text_in(message: Message, key: str) -> str:
    value = message.get(key)
    return value if isinstance(value, str) else ""


def parse(text: str) -> Words:
    lines = [line.strip() for line in text.replace(";;", "\n").split("\n")]
    if "script:" in lines:
        lines = lines[len(lines) - lines[::-1].index("script:") :]
    words = []
    for line in filter(None, lines):
        word, _, rest = line.partition(" ")
        words.append((word, rest.strip()) if word in WORDS else ("say", line))
    known = any(line.partition(" ")[0] in WORDS for line in lines)
    return words if known else [("", text)]


# The words. Each is a script: it yields what it waits for, `yield from ()` if it waits for nothing.


def numbers(rest: str, *defaults: float) -> list[float]:
    given = [float(part) for part in rest.split()]
    if len(given) > len(defaults) or not all(0 <= number < 1e12 for number in given):
        raise ValueError(rest)
    return [*given, *defaults[len(given) :]]


def seconds_first(rest: str) -> tuple[float, str]:
    first, _, others = rest.partition(" ")
    return numbers(first, 0)[0], others.strip()


def numbered(size: int, piece: int) -> Iterator[str]:
    """Pieces that carry their number, so that a lost or swapped one can be seen in the text."""
    width = max(piece, 2) - 1
    for at in range(size // (width + 1)):
        yield f"{at:0{width}d}"[-width:] + " "
    if size % (width + 1):
        yield "x" * (size % (width + 1))


def greet(mind: ScriptedMind, text: str, images: int) -> Script:
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    told = f" You said: {first[:80]}." if first else ""
    seen = f" images={images}" if images else ""
    yield from mind.tell([f"Hello from the scripted agent.{told}{seen} users={len(mind.prompts)}"])


def say(mind: ScriptedMind, rest: str) -> Script:
    yield from mind.tell([rest])


def text_word(mind: ScriptedMind, rest: str) -> Script:
    size, piece, delay_ms = numbers(rest, 1000, PIECE, 0)
    yield from mind.tell(numbered(int(size), int(piece)), delay_ms / 1000)


def slow(mind: ScriptedMind, rest: str) -> Script:
    count, delay = numbers(rest, 10, 0.1)
    yield from mind.tell((f"word{at + 1} " for at in range(int(count))), delay)


def think(mind: ScriptedMind, rest: str) -> Script:
    yield from mind.tell((f"{word} " for word in rest.split()), kind="reasoning")


def big(mind: ScriptedMind, rest: str) -> Script:
    """One text frame of exactly that many bytes, unless its envelope alone has more."""
    size = int(numbers(rest, 1_000_000)[0])
    if size > BIG_BYTES_MAX:
        raise ValueError(rest)
    item = mind.begin("text.done")
    envelope = len(encode({"type": "text", "item": item, "delta": ""}))
    mind.frame("text", item=item, delta="x" * (size - envelope))
    mind.spoken += size
    mind.close(item)
    yield from ()


def flood(mind: ScriptedMind, rest: str) -> Script:
    size, piece = numbers(rest, 1_000_000, 1024)
    yield from mind.tell(numbered(int(size), int(piece)))


def bash(mind: ScriptedMind, rest: str) -> Script:
    yield from mind.use("command", rest, {"command": rest}, Out("run", rest.encode()), asks=True)


def run(mind: ScriptedMind, rest: str) -> Script:
    yield from mind.use("command", rest, {"command": rest}, Out("run", rest.encode()), asks=False)


def write(mind: ScriptedMind, rest: str) -> Script:
    path, _, text = rest.partition(" ")
    if not path:
        raise ValueError(rest)
    work = Out("write", text.encode("utf-8", "replace"), path=path)
    yield from mind.use("file_change", f"write {path}", {"path": path, "text": text}, work, asks=True)


def ask(mind: ScriptedMind, rest: str) -> Script:
    kind = "tool"
    if rest.startswith("kind="):
        kind, _, rest = rest.removeprefix("kind=").partition(" ")
    titles = [title.strip() for title in rest.split("|")]
    asks = [{"kind": kind, "title": title, "tool": "ask", "arguments": {"title": title}} for title in titles]
    answers = yield from mind.ask("ask", *asks)
    for title, answer in zip(titles, answers, strict=True):
        message = text_in(answer, "message")
        yield from mind.tell([f"{title}: {answer['decision']}{f' ({message})' if message else ''}"])


def one_question(at: int, text: str) -> Message:
    head, *labels = [part.strip() for part in text.split("|")]
    header, colon, words = head.partition(":")
    free = not labels or labels[-1] == "..."
    return {
        "id": f"q{at}",
        "header": header.lstrip("*") if colon else f"Question {at}",
        "text": (words if colon else header).strip().lstrip("*"),
        "multiple": head.startswith("*"),
        "free": free,
        "options": [{"label": label} for label in labels if label != "..."],
    }


def question(mind: ScriptedMind, rest: str) -> Script:
    asked = [one_question(at, text) for at, text in enumerate(rest.split("&&"), 1)]
    (answer,) = yield from mind.ask("question", {"title": asked[0]["text"], "questions": asked})
    chosen = answer.get("answers")
    if answer["decision"] == "decline" or not isinstance(chosen, dict):
        yield from mind.tell(["You did not answer."])
        return
    told = [f"{one['header']}: {', '.join(map(str, chosen.get(one['id']) or ['nothing']))}" for one in asked]
    yield from mind.tell([f"You chose {'; '.join(told)}."])


def plan(mind: ScriptedMind, rest: str) -> Script:
    item = mind.number("i")
    mind.frame("plan", item=item, text=rest)
    fields = {"kind": "plan", "item": item, "title": "Go on with this plan?", "detail": rest, "tool": "plan"}
    (answer,) = yield from mind.ask("ask", {**fields, "arguments": {"plan": rest}})
    mind.plan = mind.plan and answer["decision"] == "decline"
    yield from mind.tell([f"Plan: {answer['decision']}"])


def todo(mind: ScriptedMind, rest: str) -> Script:
    states = {">": "in_progress", "+": "completed"}
    points = [point.strip() for point in rest.split(",")]
    entries = [{"text": one.lstrip(">+"), "status": states.get(one[:1], "pending")} for one in points]
    mind.frame("todo", item=mind.number("i"), entries=entries)
    yield from ()


def notice(mind: ScriptedMind, rest: str) -> Script:
    mind.frame("notice", code="scripted", text=rest)
    yield from ()


def sleep(mind: ScriptedMind, rest: str) -> Script:
    yield numbers(rest, 1)[0]


def remember(mind: ScriptedMind, rest: str) -> Script:
    yield from mind.tell([f"I will remember {rest}."])


def recall(mind: ScriptedMind, rest: str) -> Script:
    pairs = [(a, b) for text in mind.prompts for a, b in zip(text.split(), text.split()[1:], strict=False)]
    words = [after.strip(".,;!") for word, after in pairs if word.lower() == "remember"]
    yield from mind.tell([f"I remember: {' '.join(words) or 'nothing'}. users={len(mind.prompts)}"])


def wake(mind: ScriptedMind, rest: str) -> Script:
    seconds, text = seconds_first(rest)
    mind.owed.append((seconds, [("say", text)]))
    yield from ()


def later(mind: ScriptedMind, rest: str) -> Script:
    try:
        seconds, line = seconds_first(rest)
    except ValueError:
        seconds, line = 0.0, rest
    mind.owed.append((seconds, parse(line)))
    yield from ()


def moment(now: float, text: str) -> str:
    """`+S` is S seconds from now, anything else is a time already."""
    if not text.startswith("+"):
        return text
    from datetime import UTC, datetime  # here, because it would slow down every start

    at = datetime.fromtimestamp(now + numbers(text[1:], 0)[0], UTC)
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def fail(mind: ScriptedMind, rest: str) -> Script:
    name, _, message = rest.partition(" ")
    failure = {"class": name or "agent_error"}
    first, _, others = message.partition(" ")
    if name == "usage_limit" and first[:1] in "+0123456789" and first:
        failure["retry_at"] = moment(mind.now, first)
        message = others
    failure["message"] = message or "the script says so"
    yield from ()
    raise Ended("failed", failure)


def crash(mind: ScriptedMind, rest: str) -> Script:
    mind.leave("kill", int(numbers(rest, SIGKILL)[0]))
    yield ()


def exit_word(mind: ScriptedMind, rest: str) -> Script:
    mind.leave("exit", int(numbers(rest, 0)[0]) & 255)
    yield ()


def nonewline_exit(mind: ScriptedMind, rest: str) -> Script:
    mind.raw(encode({"type": "text", "item": mind.begin("text.done"), "delta": "last words"}))
    mind.leave("exit", 0)
    yield ()


def done_before(mind: ScriptedMind, rest: str) -> Script:
    """`lost` and `unseen` act before the turn; here they have passed."""
    yield from ()


def hang(mind: ScriptedMind, rest: str) -> Script:
    mind.hung = True
    yield ()


def deaf(mind: ScriptedMind, rest: str) -> Script:
    mind.deaf = True
    yield from ()


def stubborn(mind: ScriptedMind, rest: str) -> Script:
    mind.deaf = mind.stubborn = True
    mind.outs.append(Out("stubborn"))
    yield from ()


def noise(mind: ScriptedMind, rest: str) -> Script:
    count = int(numbers(rest, 1)[0])
    for at in range(count):
        mind.raw(f"noise {at + 1} of {count}: this is not JSON\n".encode())
        if mind.written > PASS_BYTES:
            yield 0.0
    yield from ()


def split(mind: ScriptedMind, text: str, before: bytes) -> Script:
    """One frame in two writes, cut after the first byte of `before`."""
    item = mind.begin("text.done")
    data = encode({"type": "text", "item": item, "delta": text}) + b"\n"
    cut = data.index(before) + 1
    mind.raw(data[:cut])
    mind.tail = data[cut:]
    mind.spoken += len(text)
    yield SPLIT_PAUSE_S
    mind.said = text
    mind.close(item, text=text)


def halfline(mind: ScriptedMind, rest: str) -> Script:
    yield from split(mind, rest or "in two halves", b'"delta":')


def splitutf8(mind: ScriptedMind, rest: str) -> Script:
    yield from split(mind, "grün € 🌲", "€".encode())


def stderr(mind: ScriptedMind, rest: str) -> Script:
    if rest.isdecimal():
        for piece in numbered(int(numbers(rest, 0)[0]), 1024):
            mind.outs.append(Out("err", piece.encode()))
            if len(mind.outs) > 64:
                yield 0.0
    else:
        mind.outs.append(Out("err", rest.encode("utf-8", "replace") + b"\n"))
    yield from ()


def child(mind: ScriptedMind, rest: str) -> Script:
    mind.outs.append(Out("child", rest.encode()))
    yield from ()


def heir(mind: ScriptedMind, rest: str) -> Script:
    mind.outs.append(Out("heir", rest.encode()))
    yield from ()


WORDS: dict[str, Callable[[ScriptedMind, str], Script]] = {
    word.__name__: word
    for word in (
        ask, bash, big, child, crash, deaf, fail, flood, halfline, hang, heir, later, noise, nonewline_exit, notice,
        plan, question, recall, remember, run, say, slow, sleep, splitutf8, stderr, stubborn, think, todo, wake, write,
    )
}  # fmt: skip
WORDS |= {"text": text_word, "exit": exit_word, "lost": done_before, "unseen": done_before}
