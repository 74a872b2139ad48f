"""The scripted agent without process, clock or chance: messages in, things to do out. Standard library alone.

Owns the conversation: its history, its turns, what it asked and what it waits for. It performs nothing:
`scripted_program.py` does for a real process what the `Out`s say, a simulation does it in virtual time; the same
messages at the same times always give the same. The words of a script are in `scripted_words.py`, the protocol is
described in `scripted.py`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable

from holdfast.agents.scripted_words import (
    PASS_BYTES,
    SIGKILL,
    WORDS,
    Ended,
    Out,
    encode,
    greet,
    parse,
    text_in,
)

TYPE_CHECKING = False  # importing typing for it would cost 5 ms of every start
if TYPE_CHECKING:
    from typing import Any

    from holdfast.agents.scripted_words import Message, Script, Wait, Words

VERSION = "1"
DECISIONS = ("accept", "accept_for_session", "decline", "cancel")
WHOLE_TEXT_MAX = 256 * 1024  # a text up to this size is repeated whole when it is done
WINDOW_TOKENS = 200_000


class ScriptedMind:
    """What the agent thinks and does, as values. `feed` takes a message, `wake` the hour that `wake_at` asked for."""

    def __init__(self, read_history: Callable[[str], list[str] | None]) -> None:
        self.read_history = read_history
        self.now = 0.0
        self.outs: list[Out] = []
        self.native = ""
        self.plan = False
        self.prompts: list[str] = []  # the native history: what people said
        self.died: set[str] = set()  # of the words `lost` and `unseen`: each is for once
        self.queue: list[tuple[str, str, int]] = []
        self.agenda: list[tuple[float, int, Words]] = []  # turns that nobody asked for, and when
        self.gone = self.hung = self.deaf = self.stubborn = False
        self.script: Script | None = None
        self.turn = self.prompt = self.said = ""
        self.turn_at: float | None = None  # when the script goes on by itself
        self.started = 0.0
        self.waits: tuple[str, ...] = ()
        self.owed: list[tuple[float, Words]] = []
        self.asked: list[str] = []
        self.open: dict[str, str] = {}  # item -> the frame that closes it
        self.running: list[str] = []  # tools with a command under way
        self.tail = b""  # the rest of a frame that was begun
        self.numbers: dict[str, int] = {}
        self.written = self.spoken = 0

    @property
    def wake_at(self) -> float | None:
        if self.gone or self.hung:
            return None
        if self.script is not None:
            return self.turn_at
        return min(self.agenda)[0] if self.agenda else None

    def feed(self, message: Message, now: float) -> list[Out]:
        """A message of the control plane, `eof` at its end, or what the host answers to `run` and `write`."""
        self.now = now
        handlers = {
            "hello": self._hello,
            "prompt": self._prompt,
            "answer": self._answer,
            "interrupt": self._interrupt,
            "host.output": self._host,
            "host.done": self._host,
            "eof": self._eof,
        }
        handler = handlers.get(text_in(message, "type"))
        if handler is not None and not (self.gone or self.hung):
            handler(message)
        return self._taken()

    def wake(self, now: float) -> list[Out]:
        self.now = now
        if self.wake_at is not None and self.wake_at <= now:
            self._go({})
        return self._taken()

    def _taken(self) -> list[Out]:
        outs, self.outs = self.outs, []
        return outs

    # messages

    def _hello(self, message: Message) -> None:
        native = text_in(message, "native")
        if self.native:
            return
        if not native or not all(c.isascii() and (c.isalnum() or c in "-_") for c in native):
            self.frame("refused", reason=f"{native!r} is no native id", lost=False)
            return
        lines = self.read_history(native)
        if lines is None and message.get("resume") is True:
            self.frame("refused", reason="no conversation", lost=True)
            return
        self.native, self.plan = native, message.get("plan") is True
        for line in lines or ():
            self._remember(line)
        if lines is None:
            self.note(native=native)
        self.frame("ready", native=native, version=VERSION, model=text_in(message, "model") or "scripted-1")
        self._go({})

    def _remember(self, line: str) -> None:
        try:
            note = json.loads(line)
        except ValueError:
            return  # torn by a crash
        if isinstance(note, dict) and "prompt" in note:
            self.prompts.append(text_in(note, "text"))
        elif isinstance(note, dict) and "died" in note:
            self.died.add(text_in(note, "died"))

    def _prompt(self, message: Message) -> None:
        images = message.get("images")
        self.queue.append(
            (text_in(message, "id"), text_in(message, "text"), images if isinstance(images, int) else 0)
        )
        if self.script is None:
            self._go({})

    def _answer(self, message: Message) -> None:
        request = text_in(message, "request")
        if request in self.asked and message.get("decision") in DECISIONS:
            self.asked.remove(request)
            self._go(message)

    def _interrupt(self, message: Message) -> None:
        if self.script is not None and not self.deaf and text_in(message, "turn") in ("", self.turn):
            self._end("interrupted")
            self._go({})

    def _host(self, message: Message) -> None:
        item = text_in(message, "item")
        if message["type"] == "host.done" and item in self.running:
            self.running.remove(item)
        if item in self.waits:
            self._go(message)

    def _eof(self, message: Message) -> None:
        if not self.stubborn:
            self.leave("exit", 0)

    # turns

    def _go(self, value: Message) -> None:
        """The script goes on until it waits; then the next turn begins, if there is one."""
        while not self.gone:
            if self.script is None:
                if not self.native or not self._begin() or self.script is None:
                    return
                value = {}
            self.waits, self.turn_at, self.written = (), None, 0
            try:
                wait = self.script.send(value) if value else next(self.script)
            except StopIteration:
                self._end("completed")
            except Ended as ended:
                self._end(ended.status, ended.failure)
            else:
                if isinstance(wait, tuple):
                    self.waits = wait
                else:
                    self.turn_at = self.now + wait
                return

    def _begin(self) -> bool:
        self.prompt, images = "", 0
        if self.queue:
            self.prompt, text, images = self.queue.pop(0)
            words = parse(text)
            self._die_once("lost", words)
            self.prompts.append(text)
            self.note(prompt=self.prompt, text=text)
            self._die_once("unseen", words)
            if self.gone:
                return False
            self.frame("prompt.seen", id=self.prompt)
        elif self.agenda and min(self.agenda)[0] <= self.now:
            due = min(self.agenda)
            self.agenda.remove(due)
            words = due[2]
        else:
            return False
        self.turn, self.said, self.spoken, self.started = self.number("t"), "", 0, self.now
        self.frame("turn.started", turn=self.turn, prompt=self.prompt)
        self.script = self._play(words, images)
        return True

    def _die_once(self, word: str, words: Words) -> None:
        if not self.gone and word not in self.died and any(word == name for name, _ in words):
            self.note(died=word)
            self.leave("kill", SIGKILL)

    def _play(self, words: Words, images: int) -> Script:
        for word, rest in words:
            try:
                if word:
                    yield from WORDS[word](self, rest)
                else:
                    yield from greet(self, rest, images)
            except ValueError:  # no arguments for this word: then it was meant as text
                yield from self.tell([f"{word} {rest}".strip()])

    def _end(self, status: str, failure: dict[str, str] | None = None) -> None:
        if self.script is not None:
            self.script.close()
        self.script, self.waits, self.turn_at = None, (), None
        for request in self.asked:
            self.frame("ask.cancelled", request=request)
        for item in list(self.open):
            self.close(item, status="interrupted")
        self.outs += [Out("end", ref=item) for item in self.running]
        self.asked, self.running = [], []
        self.note(answer=self.prompt, status=status, text=self.said)
        used = sum(map(len, self.prompts)) // 4
        self.frame("usage", used=used, window=WINDOW_TOKENS)
        usage = {
            "input": used,
            "output": self.spoken // 4,
            "duration_ms": round((self.now - self.started) * 1000),
        }
        ending = {"failure": failure} if failure else {}
        self.frame("turn.ended", turn=self.turn, status=status, usage=usage, **ending)
        self.turn = ""
        for seconds, words in self.owed:
            self.agenda.append((self.now + seconds, self.count("w"), words))
        self.owed = []

    # what scripts are made of

    def frame(self, kind: str, /, **fields: Any) -> None:
        self.raw(encode({"type": kind, **fields}) + b"\n")

    def raw(self, data: bytes) -> None:
        data, self.tail = self.tail + data, b""
        self.written += len(data)
        if data and not self.gone:
            self.outs.append(Out("out", data))

    def note(self, **fields: Any) -> None:
        if not self.gone:
            self.outs.append(Out("note", encode(fields)))

    def leave(self, how: str, code: int) -> None:
        self.outs.append(Out(how, code=code))
        self.gone = True

    def count(self, prefix: str) -> int:
        self.numbers[prefix] = self.numbers.get(prefix, 0) + 1
        return self.numbers[prefix]

    def number(self, prefix: str) -> str:
        return f"{prefix}{self.count(prefix)}"

    def begin(self, closing: str) -> str:
        item = self.number("i")
        self.open[item] = closing
        return item

    def close(self, item: str, /, **fields: Any) -> None:
        self.frame(self.open.pop(item), item=item, **fields)

    def tell(self, pieces: Iterable[str], delay: float = 0.0, kind: str = "text") -> Script:
        item = self.begin(f"{kind}.done")
        kept: list[str] = []
        size = 0
        for piece in pieces:
            if size and delay:
                yield delay
            elif self.written > PASS_BYTES:
                yield 0.0
            self.frame(kind, item=item, delta=piece)
            size += len(piece)
            if size <= WHOLE_TEXT_MAX:
                kept.append(piece)
        whole = {"text": "".join(kept)} if size <= WHOLE_TEXT_MAX else {}
        if kind == "text":
            self.said = whole.get("text", "")
            self.spoken += size
        self.close(item, **whole)

    def ask(self, frame: str, *asks: Message) -> Generator[Wait, Message, list[Message]]:
        """Asks all of them, and goes on when all are answered; `cancel` ends the turn."""
        names = [self.number("r") for _ in asks]
        for request, fields in zip(names, asks, strict=True):
            self.asked.append(request)
            self.frame(frame, request=request, **fields)
        answers: dict[str, Message] = {}
        while len(answers) < len(names):
            answer = yield tuple(request for request in names if request not in answers)
            answers[answer["request"]] = answer
            if answer["decision"] == "cancel":
                raise Ended("interrupted")
        return [answers[request] for request in names]

    def use(self, tool: str, title: str, arguments: Message, work: Out, asks: bool) -> Script:
        """A tool call: asked for if need be, done by the host, its result told."""
        work.ref = item = self.begin("tool.done")
        call = {"tool": tool, "title": title, "arguments": arguments}
        self.frame("tool.started", item=item, **call)
        if self.plan:
            self.close(item, status="declined", text="plan mode: nothing is run or changed")
            return
        if asks:
            grant = title if tool == "command" else tool
            (answer,) = yield from self.ask("ask", {"kind": tool, "item": item, "grant": grant, **call})
            if answer["decision"] == "decline":
                self.close(item, status="declined", text=text_in(answer, "message"))
                return
        self.running.append(item)
        self.outs.append(work)
        result = yield (item,)
        while result["type"] == "host.output":
            self.frame("tool.output", item=item, delta=text_in(result, "text"))
            result = yield (item,)
        code = result["code"]
        self.close(
            item, status="failed" if code else "completed", exit_code=code, text=text_in(result, "text")
        )
