"""The rules that keep the house in order, as pure checks of one parsed file; tests/test_tidy.py applies them.

A rule is a function from a `Module` to findings: where, and what to do. Rules read the syntax tree, never the text, so
that comments and docstrings may name what they like. A limit that makes the code worse is changed here, in one place,
with the reason in the commit.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FUNCTION_LINES = 80
MODULE_LINES = 600

PURE = ("core", "wire", "agents")
IMPURE_MODULES = frozenset(
    "apsw asyncio fcntl httpx2 io logging multiprocessing os pathlib random secrets select selectors shutil signal "
    "socket starlette subprocess tempfile threading time uuid uvicorn".split()
)
PURE_NAMES = {"pathlib": {"PurePath", "PurePosixPath"}}  # these touch no disk
IMPURE_BUILTINS = frozenset({"input", "open", "print"})
CLOCKS = frozenset({"now", "today", "utcnow"})
CHILD_PROGRAMS = frozenset(
    {"src/holdfast/agents/scripted_program.py"}
)  # a process of its own, not a translator

AGENT_NAME = re.compile(r"claude|codex|opencode|gemini|cursor[-_]agent", re.IGNORECASE)
NAMED_IN = ("agents", "wire")

# Who may import whom: arrows only downwards. A package may always import itself.
LEAVES = frozenset({"errors", "faults", "settings"})
BELOW: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "faults": frozenset({"errors"}),
    "core": frozenset({"errors"}),
    "wire": frozenset(),
    "agents": frozenset({"core", "wire", "errors"}),
    "settings": frozenset({"errors"}),
    "home": frozenset({"errors"}),
    "config": frozenset({"agents", "errors", "home", "settings"}),
    "runner": frozenset({"wire", *LEAVES}),
    "store": frozenset({"core", "wire", "errors", "faults"}),
    "workspace": frozenset({"core", "errors", "faults"}),
    "engine": frozenset(
        {"agents", "config", "core", "home", "runner", "store", "wire", "workspace", *LEAVES}
    ),
    "client": frozenset({"wire", "errors"}),
    "doctor": frozenset({"agents", "client", "config", "home", "runner", "wire", *LEAVES}),
    "jobs": frozenset({"client", "wire", "errors", "settings"}),
    "bridge": frozenset({"client", "wire", "errors", "settings"}),
    "surfaces": frozenset(
        {
            "bridge",
            "client",
            "config",
            "core",
            "doctor",
            "engine",
            "home",
            "jobs",
            "runner",
            "wire",
            "workspace",
        }
        | LEAVES
    ),
}
ROOTS = frozenset({"__init__", "__main__"})  # they put the pieces together

VAGUE_NAMES = frozenset("base common helper helpers manager managers misc shared stuff util utils".split())
STARTS_PROCESSES = ("runner", "workspace")

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    path: str  # from the root of the repository, with slashes
    text: str
    tree: ast.Module

    @classmethod
    def parsed(cls, path: str, text: str) -> "Module":
        return cls(path, text, ast.parse(text, filename=path))

    @classmethod
    def read(cls, root: Path, file: Path) -> "Module":
        return cls.parsed(file.relative_to(root).as_posix(), file.read_text(encoding="utf-8"))

    @property
    def room(self) -> str | None:
        """The package or top-level module of Holdfast that this is (in): `core`, `errors`; None outside of it."""
        parts = self.path.split("/")
        if parts[:2] != ["src", "holdfast"]:
            return None
        return parts[2].removesuffix(".py")

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/")

    def at(self, node: ast.AST, text: str) -> str:
        return f"{self.path}:{getattr(node, 'lineno', 1)}: {text}"


class Import(NamedTuple):
    node: ast.stmt
    module: str  # absolute
    name: str | None  # what is taken from it


def imports_of(module: Module) -> Iterator[Import]:
    parts = module.path.removesuffix(".py").split("/")
    package = parts[1 if parts[0] == "src" else 0 : -1]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node, alias.name, None)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(node, source, alias.name)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of an expression that is only names and dots, else what there is of it."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls_of(module: Module) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def functions_of(module: Module) -> Iterator[Function]:
    for node in ast.walk(module.tree):
        if isinstance(node, Function):
            yield node


def docstrings_of(module: Module) -> Iterator[ast.Constant]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield first.value


# The rules


def purity(module: Module) -> Iterator[str]:
    """core, wire and agents decide; they never touch the clock, chance or the outside."""
    if module.room not in PURE or module.path in CHILD_PROGRAMS:
        return
    for found in imports_of(module):
        top = found.module.partition(".")[0]
        if top in IMPURE_MODULES and found.name not in PURE_NAMES.get(top, ()):
            yield module.at(
                found.node,
                f"imports {top}, but {module.room}/ is pure: take what you need as an argument "
                "(`now`, ids), and move the doing to engine/ or runner/",
            )
    for node, name in calls_of(module):
        if name in IMPURE_BUILTINS:
            yield module.at(
                node, f"calls {name}(), but {module.room}/ is pure: return what is to be done instead"
            )
        if name.rpartition(".")[2] in CLOCKS and name.split(".")[-2:-1] in (["datetime"], ["date"]):
            yield module.at(node, f"calls {name}(), but {module.room}/ is pure: take `now` as an argument")


def agent_names(module: Module) -> Iterator[str]:
    """What is special about an agent is in agents/ and wire/; everywhere else it is data."""
    if module.room is None or module.room in NAMED_IN:
        return
    allowed = {id(node) for node in docstrings_of(module)}
    for node in ast.walk(module.tree):
        if id(node) in allowed:
            continue
        for word in words_of(node):
            if found := AGENT_NAME.search(word):
                yield module.at(
                    node,
                    f"names an agent ({found.group()}): ask the agents catalog, or make it a capability or field of "
                    "the agent's declaration in agents/",
                )


def words_of(node: ast.AST) -> Iterator[str]:
    """The identifiers and strings that one node itself spells."""
    match node:
        case ast.Constant(value=str(value)):
            yield value
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.alias(name=name, asname=asname):
            yield name
            yield asname or ""
        case ast.ImportFrom(module=str(name)):
            yield name
        case _:
            pass


def directions(module: Module) -> Iterator[str]:
    """Imports go downwards only, so that a room can be read, tested and replaced without those above it."""
    room = module.room
    if room is None or room in ROOTS:
        return
    if room not in BELOW:
        yield f"{module.path}:1: {room} has no place in the house: put it into a room, or give it a row in tests/tidy.py"
        return
    for found in imports_of(module):
        names = [*found.module.split("."), *([found.name] if found.name else [])]
        if names[0] != "holdfast" or len(names) < 2:
            continue
        target = names[1]
        if target == room or target in BELOW[room] or target.startswith("__"):
            continue
        allowed = ", ".join(sorted(BELOW[room])) or "nothing of ours"
        yield module.at(
            found.node,
            f"{room} imports {target}, but may import only {allowed}: pass it in from above, or move the thing down",
        )


def sizes(module: Module) -> Iterator[str]:
    """One reading per function and per file."""
    lines = module.text.count("\n")
    if lines > MODULE_LINES:
        yield f"{module.path}:{MODULE_LINES + 1}: {lines} lines, the limit is {MODULE_LINES}: split it by idea"
    for function in functions_of(module):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        if length > FUNCTION_LINES:
            yield module.at(
                function,
                f"{function.name} has {length} lines, the limit is {FUNCTION_LINES}: give its parts names",
            )


def module_names(module: Module) -> Iterator[str]:
    for part in module.path.removesuffix(".py").split("/"):
        if VAGUE_NAMES & set(part.split("_")):
            yield f"{module.path}:1: the name {part} says nothing: name the file after what it owns"


def one_sqlite(module: Module) -> Iterator[str]:
    for found in imports_of(module):
        if found.module.partition(".")[0] == "sqlite3":
            yield module.at(
                found.node, "imports sqlite3: use apsw; two SQLite libraries in one process lose data"
            )


def processes(module: Module) -> Iterator[str]:
    """Only the runner (and git's room) starts processes on the event loop: it knows how to stop them all."""
    if module.room is None or module.room in STARTS_PROCESSES:
        return
    for node, name in calls_of(module):
        if name.rpartition(".")[2] in ("create_subprocess_exec", "create_subprocess_shell"):
            yield module.at(
                node, f"starts a process: ask the runner, or move it to {' or '.join(STARTS_PROCESSES)}/"
            )


def described(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree) and module.tree.body:
        yield f"{module.path}:1: no module docstring: say what it owns, what it never does, and who calls it"
    if module.path.endswith("__init__.py") and module.room and not module.tree.body:
        yield f"{module.path}:1: the package has no docstring: say in a line what it is for"


def honest_tests(module: Module) -> Iterator[str]:
    """A test neither sleeps until it hopes to be right, nor leaves before it has tested."""
    if not module.is_test:
        return
    for node, name in calls_of(module):
        if name == "time.sleep":
            yield module.at(node, "time.sleep in a test: wait on the fact itself, with a bound")
    for found in imports_of(module):
        if found.module == "time" and found.name == "sleep":
            yield module.at(found.node, "imports sleep in a test: wait on the fact itself, with a bound")
    for function in functions_of(module):
        if function.name.startswith("test_"):
            for early in own_returns(function):
                yield module.at(
                    early, f"{function.name} returns early: it could pass without testing; assert instead"
                )


def own_returns(function: Function) -> Iterator[ast.Return]:
    """The returns of this function itself, not of functions and classes inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return):
            yield node
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


RULES = (
    purity,
    agent_names,
    directions,
    sizes,
    module_names,
    one_sqlite,
    processes,
    described,
    honest_tests,
)
