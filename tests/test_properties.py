"""The 84 properties of a long-lived agent process that were found in the field, and where each is proved.

A property names the tests that would fail if it were broken, or says why it cannot arise here. The tests below hold the
table to account: no number is missing, and every test that is named exists.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

PROPERTIES: dict[int, str | list[str]] = {
    # The life of a process
    1: ["house/test_turns.py::test_three_prompts_run_on_one_process"],
    2: ["house/test_turns.py::test_three_prompts_run_on_one_process"],
    3: [
        "agents/test_claude_launch.py::test_a_fresh_conversation_is_started_under_the_id_that_we_chose",
        "agents/test_claude_launch.py::test_a_conversation_is_resumed_while_its_transcript_exists",
    ],
    4: ["processes/test_misbehaving.py::test_who_ends_when_its_input_closes_is_not_signalled"],
    5: [
        "processes/test_misbehaving.py::test_who_ignores_the_request_to_end_is_killed",
        "processes/test_misbehaving.py::test_a_second_stop_only_shortens_the_first",
    ],
    6: ["house/test_agent_dies.py::test_killed_while_it_streams_the_run_fails_and_the_next_prompt_resumes"],
    7: ["processes/test_misbehaving.py::test_last_words_without_a_newline_are_never_lost"],
    8: [
        "processes/test_misbehaving.py::test_last_words_without_a_newline_are_never_lost",
        "wire/test_jsonl.py::test_any_cut_of_a_stream_gives_the_same_frames",
    ],
    9: [
        "core/test_runs.py::test_a_failure_holds_the_queue",
        "house/test_agent_dies.py::test_a_queue_behind_a_run_that_failed_is_held_until_it_is_released",
    ],
    10: [
        "core/test_sessions.py::test_what_is_open_ends_with_its_session",
        "core/test_machine.py::TestThread",
    ],
    11: [
        "house/test_trouble.py::test_an_agent_that_is_not_installed_is_said",
        "processes/test_misbehaving.py::test_what_cannot_start_says_why",
    ],
    12: ["processes/test_misbehaving.py::test_a_write_to_a_closed_input_is_refused_and_nothing_breaks"],
    13: [
        "house/test_trouble.py::test_a_frame_above_the_bound_fails_the_run_and_the_thread_goes_on",
        "wire/test_jsonl.py::test_a_skipped_frame_is_not_kept_in_memory",
    ],
    14: [
        "processes/test_misbehaving.py::test_noise_is_kept_and_empty_lines_are_dropped",
        "agents/test_claude_turns.py::test_lines_that_are_no_frames_are_never_fatal",
    ],
    15: [
        "runner/test_link_contract.py::test_an_open_that_is_repeated_starts_nothing",
        "core/test_runs.py::test_a_message_behind_a_run_waits_for_it",
    ],
    16: ["surfaces/test_config.py::test_agents_on_path_are_offered_under_their_kinds_name"],
    # Names
    17: "a thread's id is ours and fresh before any process runs; a native id is evidence and keys nothing",
    18: "no id is ever pending: see 17",
    19: ["surfaces/test_access.py::test_without_the_token_no_route_answers"],
    # One prompt at a time
    20: [
        "core/test_runs.py::test_the_queue_keeps_its_order",
        "agents/test_claude_turns.py::test_a_message_folded_into_a_running_turn_is_seen_and_begins_none",
    ],
    21: ["agents/test_claude_turns.py::test_a_prompt_that_could_not_be_written_is_forgotten"],
    22: ["core/test_dispatch.py::test_a_closed_input_ends_the_session_and_is_not_tried_for_ever"],
    23: ["core/test_dispatch.py::test_a_run_that_goes_back_is_the_first_of_the_queue"],
    24: "the queue is rows of the log and holds no memory; a single message has its bound (too_large)",
    25: ["agents/test_claude_transcripts.py::test_every_prompt_is_seen_once"],
    26: ["agents/test_claude_turns.py::test_a_prompt_that_the_agent_drops_ends_as_interrupted"],
    # Idleness
    27: [
        "surfaces/test_config.py::test_a_wrong_setting_is_an_error_that_names_it",
        "core/test_sessions.py::test_never_idle_is_a_setting",
    ],
    28: ["core/test_sessions.py::test_idle_ends_with_work"],
    29: ["core/test_sessions.py::test_a_message_while_the_session_closes_gets_the_next_one"],
    30: ["core/test_sessions.py::test_an_idle_session_is_closed_gently"],
    # Stop
    31: [
        "house/test_turns.py::test_stop_during_text_ends_the_run_and_the_process_goes_on",
        "core/test_runs.py::test_a_stop_that_is_ignored_climbs_the_ladder",
    ],
    32: ["core/test_policies.py::test_a_deadline_that_something_has_overtaken_changes_nothing"],
    33: ["core/test_transitions.py::test_an_end_is_an_end"],
    34: ["core/test_runs.py::test_stopping_the_thread_stops_everything"],
    35: ["house/test_agent_dies.py::test_an_agent_that_ignores_everything_is_ended_by_force"],
    36: ["core/test_runs.py::test_stopping_while_the_session_closes_waits_for_its_end"],
    # Images in temporary files
    37: "images are not built yet and are refused in words; they will be blobs owned by their message, not files",
    38: "see 37",
    39: "see 37: nothing is stored before ownership is checked",
    # Ownership
    40: "owners are text from the moment they are read",
    41: ["surfaces/test_access.py::test_each_route_asks_for_its_scope"],
    42: "the owner is part of thread.created; no thread is without one",
    43: ["surfaces/test_access.py::test_without_the_token_no_route_answers"],
    44: "the owner is in the log: see 42",
    45: "see 42: an owner never changes",
    # Settings that a live process cannot change
    46: "a thread's model, mode and folders are fixed when it is created; changing them is not built yet",
    47: "MCP servers are not handed in yet",
    48: ["surfaces/test_validation.py::test_a_thread_needs_its_folder"],
    # Readers that come back
    49: ["engine/test_feed.py::test_a_reader_that_falls_behind_is_told_and_reads_on_from_the_log"],
    50: ["engine/test_feed.py::test_a_reader_at_any_cursor_gets_each_version_once_and_then_what_comes"],
    51: ["engine/test_feed.py::test_any_interleaving_of_commits_and_reading_gives_every_version_once"],
    52: ["engine/test_feed.py::test_any_interleaving_of_commits_and_reading_gives_every_version_once"],
    53: ["surfaces/test_event_stream.py::test_the_last_event_id_wins_over_after"],
    54: ["house/test_fold.py::test_snapshot_and_events_from_any_cut_are_what_the_server_has"],
    # The permission bridge
    55: "there is no bridge over HTTP: requests come over the agent's own control channel",
    56: ["agents/test_claude_launch.py::test_a_fresh_conversation_is_started_under_the_id_that_we_chose"],
    57: [
        "house/test_turns.py::test_a_file_write_waits_and_is_done_when_it_is_accepted",
        "house/test_turns.py::test_a_declined_write_is_not_done_and_the_agent_goes_on",
    ],
    58: ["agents/test_claude_gate.py::test_nothing_waits_after_an_answer"],
    59: ["agents/test_claude_launch.py::test_no_mode_skips_permissions"],
    60: ["agents/test_claude_gate.py::test_only_the_file_of_the_plan_itself_is_written_unasked_in_plan_mode"],
    61: ["house/test_turns.py::test_a_users_allow_rule_does_not_pass_the_gate"],
    # Events and accounts
    62: ["agents/test_claude_items.py::test_a_limit_is_told_in_percent_with_its_reset"],
    63: ["agents/test_claude_items.py::test_a_message_of_a_hook_is_passed_on"],
    64: [
        "agents/test_claude_items.py::test_a_compaction_is_an_item",
        "agents/test_claude_turns.py::test_noise_of_the_system_is_dropped",
    ],
    65: ["agents/test_claude_turns.py::test_a_result_that_nobody_asked_for_is_a_turn_of_its_own"],
    66: ["agents/test_claude_turns.py::test_costs_and_times_that_run_on_are_told_per_turn"],
    67: ["core/test_runs.py::test_late_reports_of_an_ended_turn_change_nothing"],
    68: "a run's status says what happens; whether a process lives is the runner's status and never mixed in",
    69: "notifications are not built yet",
    70: "there is one list of threads",
    # What a client shows twice
    71: "a client knows its own message by command_id and invents no ids",
    72: "see 71",
    73: [
        "agents/test_claude_transcripts.py::test_an_item_is_started_and_completed_at_most_once_and_in_that_order"
    ],
    74: "order is the log's version, never a clock",
    75: "see 71",
    76: ["house/test_fold.py::test_snapshot_and_events_from_any_cut_are_what_the_server_has"],
    # Traps
    77: ["processes/test_misbehaving.py::test_a_character_in_pieces_stays_whole"],
    78: ["core/test_dispatch.py::test_a_run_that_goes_back_is_the_first_of_the_queue"],
    79: ["processes/test_misbehaving.py::test_who_does_not_read_holds_up_nobody_else"],
    80: ["agents/test_claude_turns.py::test_another_session_id_in_init_changes_no_binding"],
    81: "see 17: the second message names the thread",
    82: ["core/test_dispatch.py::test_a_prompt_that_is_not_acknowledged_ends_the_session"],
    83: ["house/test_trouble.py::test_an_agent_that_dies_at_its_start_is_quoted"],
    84: [
        "core/test_sessions.py::test_a_process_that_dies_before_it_is_ready_fails_the_run_with_its_last_words"
    ],
}


def test_every_property_has_its_place() -> None:
    assert sorted(PROPERTIES) == list(range(1, 85))


@pytest.mark.parametrize("number", sorted(n for n, proofs in PROPERTIES.items() if isinstance(proofs, list)))
def test_the_tests_that_prove_a_property_exist(number: int) -> None:
    missing = [proof for proof in PROPERTIES[number] if proof not in _tests(proof.partition("::")[0])]
    assert not missing


def _tests(file: str) -> set[str]:
    path = TESTS / file
    assert path.is_file(), f"{file} is not there"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    names |= {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return {f"{file}::{name}" for name in names}
