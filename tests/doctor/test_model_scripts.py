"""The scripted model decides by the prompt's marker, and says what it saw: no network, no protocol."""

import pytest

from holdfast.doctor.model.answers import Answer, Call, Refusal, Say, Silence, Think
from holdfast.doctor.model.conversation import Called, Conversation, Entry, Note, Prompt, Result, Said, Tool
from holdfast.doctor.model.markers import Marker, find_markers
from holdfast.doctor.model.scripts import choose_answer

TOOLS = (
    Tool("Bash", {"command": {"type": "string"}, "description": {}, "run_in_background": {}}),
    Tool("Write", {"file_path": {}, "content": {}}),
    Tool("Read", {"file_path": {}}),
    Tool("AskUserQuestion", {"questions": {"type": "array"}}),
    Tool("Agent", {"description": {}, "prompt": {}, "subagent_type": {}, "run_in_background": {}}),
)
FOLDER = "# Environment\n - Primary working directory: /w/here\n"


def answer(*entries: Entry | str, tools: tuple[Tool, ...] = TOOLS) -> Answer:
    told = tuple(Prompt(entry) if isinstance(entry, str) else entry for entry in entries)
    chosen = choose_answer(Conversation(entries=told, tools=tools, systems=(FOLDER,)))
    assert isinstance(chosen, Answer)
    return chosen


def said(chosen: Answer) -> str:
    return "".join(step.text for step in chosen.steps if isinstance(step, Say))


def called(chosen: Answer) -> list[Call]:
    return [step for step in chosen.steps if isinstance(step, Call)]


@pytest.mark.parametrize(
    ("text", "markers"),
    [
        ("no marker", []),
        ("SCRIPT:hello", [Marker("hello")]),
        ("first SCRIPT:hello then SCRIPT:bash{ls} end", [Marker("hello"), Marker("bash", "ls")]),
        ("SCRIPT:bash{echo ${HOME}; f() { :; }}", [Marker("bash", "echo ${HOME}; f() { :; }")]),
        ("SCRIPT:subagent{SCRIPT:bash{ls}}", [Marker("subagent", "SCRIPT:bash{ls}")]),
        ("SCRIPT:bash{echo '{' }", [Marker("bash", "echo '{' ")]),
        ("SCRIPT:bash{never closed", [Marker("bash", "never closed")]),
        ("SCRIPT:slow{3,0.5}", [Marker("slow", "3,0.5")]),
    ],
)
def test_markers_nest_and_keep_their_text(text: str, markers: list[Marker]) -> None:
    assert find_markers(text) == markers


def test_a_closing_answer_counts_the_prompts_alone() -> None:
    history = (Note("<system-reminder>"), Prompt("one"), Said("a"), Called("Bash"), Result("r"), Said("b"))
    assert said(answer(*history, "SCRIPT:hello")) == "Hello from the scripted model. users=2"


def test_a_prompt_without_a_marker_is_greeted_with_what_it_said() -> None:
    assert said(answer("good  morning\nmodel")) == (
        "Hello from the scripted model. You said: good morning model. users=1"
    )


def test_the_last_marker_of_the_last_prompt_counts() -> None:
    assert answer("SCRIPT:bash{ls}", Said("a"), "SCRIPT:bash{a} SCRIPT:recall").script == "recall"


def test_a_tool_is_called_once_and_its_result_closes_the_turn() -> None:
    prompt = "SCRIPT:bash{echo hi}"
    first = answer(prompt)
    assert called(first) == [Call("Bash", {"command": "echo hi", "description": "scripted command"})]
    last = answer(prompt, Said("Calling Bash."), Called("Bash"), Result("hi"))
    assert called(last) == []
    assert said(last) == "Bash answered: hi. users=1"


def test_a_refused_call_is_told_as_failed() -> None:
    refused = answer("SCRIPT:bash{ls}", Called("Bash"), Result("not now", is_error=True))
    assert said(refused) == "Bash failed: not now. users=1"


def test_results_of_earlier_prompts_do_not_count() -> None:
    assert called(answer("SCRIPT:bash{a}", Called("Bash"), Result("a"), Said("done"), "SCRIPT:bash{b}"))


@pytest.mark.parametrize(
    ("prompt", "tool", "arguments"),
    [
        ("SCRIPT:write{a.txt|body}", "Write", {"file_path": "/w/here/a.txt", "content": "body"}),
        ("SCRIPT:read{/etc/hosts}", "Read", {"file_path": "/etc/hosts"}),
        ('SCRIPT:tool{Odd|{"a": {"b": 1}}}', "Odd", {"a": {"b": 1}}),
        (
            "SCRIPT:background{make}",
            "Bash",
            {"command": "make", "description": "scripted command", "run_in_background": True},
        ),
        (
            "SCRIPT:subagent{SCRIPT:hello}",
            "Agent",
            {
                "description": "scripted subagent",
                "prompt": "SCRIPT:hello",
                "subagent_type": "general-purpose",
            },
        ),
    ],
)
def test_calls_fit_the_tool_that_is_offered(prompt: str, tool: str, arguments: dict[str, object]) -> None:
    assert called(answer(prompt)) == [Call(tool, arguments)]


def test_a_question_has_its_options() -> None:
    (call,) = called(answer("SCRIPT:ask{Which size?|Small|Large}"))
    assert call.arguments["questions"] == [
        {
            "question": "Which size?",
            "header": "Choice",
            "options": [
                {"label": "Small", "description": "the small one"},
                {"label": "Large", "description": "the large one"},
            ],
            "multiSelect": False,
        }
    ]


def test_a_shell_that_takes_a_list_gets_a_list() -> None:
    tools = (Tool("shell", {"command": {"type": "array"}}),)
    assert called(answer("SCRIPT:bash{ls}", tools=tools)) == [
        Call("shell", {"command": ["bash", "-lc", "ls"]})
    ]


def test_without_a_fitting_tool_it_says_so() -> None:
    assert said(answer("SCRIPT:write{a|b}", tools=())) == "No tool offered fits write. users=1"


def test_steps_come_one_after_the_other() -> None:
    history: list[Entry | str] = ["SCRIPT:steps{2,0.5}"]
    for ordinal in (1, 2):
        (call,) = called(answer(*history))
        assert f"step {ordinal}" in str(call.arguments["command"])
        assert "time.sleep(0.5)" in str(call.arguments["command"])
        history += [Said(f"Step {ordinal} of 2."), Called("Bash"), Result(f"step {ordinal}")]
    assert said(answer(*history)) == "2 steps done. users=1"


def test_a_chain_goes_from_link_to_link() -> None:
    history: list[Entry | str] = ["SCRIPT:chain{bash{a};;write{b|c};;hello}"]
    assert called(answer(*history))[0].tool == "Bash"
    history += [Called("Bash"), Result("a")]
    assert called(answer(*history))[0].tool == "Write"
    history += [Called("Write"), Result("b")]
    assert said(answer(*history)).startswith("Hello")


def test_a_steered_prompt_without_a_marker_leaves_the_script_at_work() -> None:
    history = (Prompt("SCRIPT:steps{2,0}"), Called("Bash"), Result("step 1"))
    steered = answer(*history, Prompt("also this", steered=True))
    assert "step 2" in str(called(steered)[0].arguments["command"])
    assert said(answer(*history, Prompt("SCRIPT:hello", steered=True))).endswith("users=2")


def test_it_recalls_what_every_prompt_asked_to_remember() -> None:
    history = (Prompt("remember alpha"), Said("ok"), Prompt("SCRIPT:hello Remember beta-2"), Said("ok"))
    assert said(answer(*history, "SCRIPT:recall")) == "I remember: alpha beta-2. users=3"
    assert said(answer("SCRIPT:recall")) == "I remember: nothing. users=1"


def test_asked_to_continue_it_does_the_last_script_over() -> None:
    broken = (Prompt("SCRIPT:bash{ls}"), Called("Bash"), Result("interrupted", is_error=True))
    assert called(answer(*broken, "Please continue where you stopped."))[0].arguments["command"] == "ls"


def test_a_background_report_wakes_a_turn_of_its_own() -> None:
    done = (Prompt("SCRIPT:slow{9,9}"), Said("done"), Note("<task-notification>", wakes=True))
    assert said(answer(*done)) == "A background task reported. users=1"
    reminded = (Prompt("SCRIPT:hello"), Note("<system-reminder>"))
    assert said(answer(*reminded)) == "Hello from the scripted model. users=1"


def test_errors_are_counted_down() -> None:
    conversation = Conversation(entries=(Prompt("SCRIPT:error{429,2}"),))
    for refusals in (0, 1):
        refusal = choose_answer(conversation, refusals)
        assert isinstance(refusal, Refusal)
        assert refusal.status == 429
    answered = choose_answer(conversation, 2)
    assert isinstance(answered, Answer)
    assert said(answered) == "Answered after 2 errors. users=1"


def test_an_error_without_a_count_lasts() -> None:
    assert isinstance(choose_answer(Conversation(entries=(Prompt("SCRIPT:error{500}"),)), 99), Refusal)


@pytest.mark.parametrize("size", [1, 32, 1000, 100_001])
def test_texts_have_the_size_that_was_asked_for(size: int) -> None:
    assert len(said(answer(f"SCRIPT:text{{{size}}}"))) == size + len(" users=1")
    big = answer(f"SCRIPT:big{{{size}}}").steps[0]
    assert isinstance(big, Say)
    assert len(big.text) == size


def test_thinking_comes_before_the_words() -> None:
    steps = answer("SCRIPT:think{first this}").steps
    assert steps == (Think("first "), Think("this"), Say("Thought."), Say(" users=1"))


def test_hanging_is_silence_after_the_text_given() -> None:
    assert answer("SCRIPT:hang").steps == (Silence(),)
    assert answer("SCRIPT:hang{begun}").steps == (Say("begun"), Silence())


@pytest.mark.parametrize("prompt", ["SCRIPT:slow{many}", "SCRIPT:tool{Bash|not json}", "SCRIPT:unheard_of"])
def test_a_marker_it_cannot_read_is_answered_in_words(prompt: str) -> None:
    text = said(answer(prompt))
    assert "cannot" in text or "no script" in text
    assert text.endswith("users=1")


def test_a_plan_is_written_loaded_and_presented() -> None:
    system = "Plan file: /h/plans/a-b.md\ndeferred tools:\nExitPlanMode\nWebFetch"
    tools = (*TOOLS, Tool("ToolSearch", {"query": {}}))
    history: list[Entry] = [Prompt("SCRIPT:plan{1. look}")]
    calls = []
    for _ in range(3):
        chosen = choose_answer(Conversation(tuple(history), tools, (system,)))
        assert isinstance(chosen, Answer)
        (call,) = called(chosen)
        calls.append(call)
        history += [Called(call.tool), Result("ok")]
    assert calls == [
        Call("Write", {"file_path": "/h/plans/a-b.md", "content": "1. look"}),
        Call("ToolSearch", {"query": "select:ExitPlanMode"}),
        Call("ExitPlanMode", {}),
    ]
    closing = choose_answer(Conversation(tuple(history), tools, (system,)))
    assert isinstance(closing, Answer)
    assert said(closing) == "ExitPlanMode answered: ok. users=1"
