"""What notebook 09 and F01 draw is what the processes said: each event beside its answer, and the waits of the
court's terms."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import replace

import pytest

from otr_core.dispute.profile import FILE, profile_numbers, read_profile
from otr_core.errors import InputError
from otr_paper.benches import network as bench
from otr_paper.devnet.attacks import SILENT, WITHHELD
from otr_paper.devnet.faults import CLIENTS, SERVERS, answer_name
from otr_paper.press import figures
from otr_paper.press import network as drawings
from otr_paper.press.pages import chaos_markdown
from otr_paper.series import network as views
from otr_paper.store.results import read_result
from tests.helpers.nodes import needs_anvil


@pytest.fixture(scope="module")
def run(project) -> dict:
    return bench.stored_network_run(project)


def test_the_stored_run_is_of_this_deployment_and_ended_as_promised(project, run):
    numbers = profile_numbers(read_profile(project.data / FILE))
    assert run["deployment"] == {name: each for name, each in numbers.items() if name != "court.arity_bits"}
    assert run["attack"] == bench.ATTACK
    assert run["broken"] == []
    assert (run["end"]["slashed_s"] is not None, run["end"]["honest_slashed"], run["end"]["lost_receipts"]) == (
        True,
        False,
        0,
    )
    for one, other in zip(run["events"][1:], run["events"][2:], strict=False):
        assert one["s"] <= other["s"]
        assert one["chain_s"] <= other["chain_s"]


def test_every_event_stands_with_the_answer_that_it_is_about(run):
    found = views.answer_events(run)
    assert {(row["answer"], row["cheated"]) for row in found} == {("operator-1", False), ("operator-2", True)}
    by_answer = {
        name: Counter(r["event"] for r in found if r["answer"] == name) for name in ("operator-1", "operator-2")
    }
    said, own = Counter(each["event"] for each in run["events"]), Counter[tuple[str, str]]()
    own.update((each["answer"], each["event"]) for each in run["events"] if "answer" in each)
    for operator in SERVERS:
        shown = answer_name(operator, CLIENTS[0])
        for event, count in (("ordered", 1), ("answered", 1), ("committed", 1), ("paid", 1), ("judged", 2)):
            assert by_answer[operator][event] == own.get((shown, event), count) == count
        for client in CLIENTS[1:]:  # whose answers are there, and are not drawn
            assert own[answer_name(operator, client), "received"] >= 2
    assert {row["process"] for row in found if row["process"] in CLIENTS} == {CLIENTS[0]}
    for event in ("challenge", "open", "move", "slashed", "reward"):
        assert by_answer["operator-2"][event] == said[event] > 0
    assert by_answer["operator-1"]["finalise"] == 1
    assert (by_answer["operator-1"]["registers a key"], by_answer["operator-2"]["registers a key"]) == (1, 0)
    assert by_answer["operator-1"]["staked"] == by_answer["operator-2"]["staked"] == 1
    assert all(row["about"] != "leaves" for row in found)
    games = {row["game"] for row in found if row["event"] == "move"}
    assert games == {1, 2}
    times = [row["since_s"] for row in found if row["answer"] == "operator-2"]
    assert times == sorted(times)
    assert 0.0 in times


def test_the_waits_are_those_of_the_terms_and_the_rest_is_as_it_was(run):
    rows = {(row["answer"], row["event"].rpartition(": ")[2]): row for row in views.tiers(run)}
    terms = run["deployment"]

    def took(*key: str) -> float:
        return rows[key]["end_s"] - rows[key]["start_s"]

    assert took("honest", "final") == pytest.approx(terms["court.window_s"] + terms["court.reveal_s"])
    assert took("cheated", "reward") == pytest.approx(terms["court.claim_s"])
    waits = {key for key, row in rows.items() if row["kind"] == "simulated"}
    assert waits == {("honest", "final"), ("cheated", "reward")}
    at = {
        event: next(e["s"] for e in run["events"] if e["process"] == "operator-2" and e["event"] == event)
        for event in ("started", "committed")
    }
    # An operator that works beside a server begins with it.
    listens = [e["s"] for e in run["events"] if (e["process"], e["event"]) == (SERVERS["operator-2"], "listening")]
    at["started"] = min(listens, default=at["started"])
    slashed = next(each["s"] for each in run["events"] if each["event"] == "slashed")
    assert rows["cheated", "convicted"]["end_s"] == pytest.approx(slashed - at["started"], abs=0.11)
    assert rows["cheated", "committed"]["end_s"] == pytest.approx(at["committed"] - at["started"], abs=0.11)
    longer = copy.deepcopy(run)
    longer["deployment"]["court.window_s"] += 1800
    (moved,) = (r for r in views.tiers(longer) if r["event"].startswith("window over"))
    assert moved["end_s"] - rows["honest", "final"]["end_s"] == pytest.approx(1800)


def test_what_each_process_did_is_counted(run):
    rows = {row["process"]: row for row in views.deeds(run)}
    assert set(rows) == {each["process"] for each in run["events"]}
    paid = sum(each["wei"] for each in run["events"] if each["event"] == "withdraw")
    assert sum(float(row["withdrawn (ether)"] or 0) for row in rows.values()) == pytest.approx(paid / 10**18)
    assert rows["conductor"]["transactions"] == 0
    sent = Counter(each["event"] for each in run["events"] if each["process"] == "operator-1")
    assert (sent["staked"], sent["committed"]) == (1, sent["finalise"])
    assert rows["operator-1"]["transactions"] == 1 + 2 * sent["committed"] + sent["withdraw"]
    moved = views.time_moves(run)
    window = run["deployment"]["court.window_s"] + run["deployment"]["court.reveal_s"]
    assert any(each["seconds"] >= window for each in moved)


def test_a_finding_says_what_the_run_was(run):
    assert views.answers_finding(run).startswith("The cheat is convicted ")
    quiet = copy.deepcopy(run)
    quiet["events"] = [each for each in quiet["events"] if each["event"] != "slashed"]
    assert views.answers_finding(quiet).startswith("Nobody cheated")
    silent = copy.deepcopy(run)
    silent["events"] = [each for each in silent["events"] if each["event"] != "move"]
    assert "did not play" in views.answers_finding(silent)


def test_runs_under_chaos_are_told_by_what_was_done_in_them(project):
    found = read_result(project.results, "chaos")[1]
    rows = views.chaos_runs(found)
    assert len(rows) == found["summary"]["runs"]
    assert sum(row["restarts"] for row in rows) == found["summary"]["restarts"]
    assert sum(row["good"] for row in rows) == found["summary"]["good"]
    assert all(row["taken_s"] <= row["bound_s"] for row in rows if row["good"] and row["attack"] != "none")
    assert all(row["bound_s"] is None for row in rows if row["attack"] == "none")
    said = " ".join(views.chaos_lines(found))
    for name in ("runs", "good", "cheats", "honest_slashed", "receipts", "restarts"):
        assert f" {found['summary'][name]}" in said
    names = ("", "a lie", f"{SILENT}a lie", WITHHELD)
    assert tuple(views.attack_word(name) for name in names) == views.ATTACK_WORDS
    assert views.chaos_finding(found).startswith(f"{found['summary']['good']} of {len(rows)} runs")


def test_what_the_pages_say_of_the_runs_that_did_not_end_as_promised_is_so(project):
    """Every cheat was convicted, and what the page lists is what did not hold, of those runs alone."""
    found = read_result(project.results, "chaos")[1]
    rows = views.chaos_exceptions(found)
    assert len(rows) == found["summary"]["runs"] - found["summary"]["good"]
    assert [row["seed"] for row in rows] == [run["seed"] for run in found["runs"] if run["broken"]]
    page = chaos_markdown(project)
    assert page.count("\n| ") == len(rows) + bool(rows)  # and a head
    assert all(f"| {row['seed']} | {row['attack']} | {row['broken']} |" in page for row in rows)
    late = [run for run in found["runs"] if run["attack"] and run["taken_s"] > run["bound_s"]]
    timely = found["summary"]["cheats"] - len(late)
    assert f"convicted {found['summary']['cheats_slashed']}, within the bound {timely}" in views.chaos_lines(found)[0]
    cut = sum("not settled" in row["broken"] for row in rows)
    assert f"not settled when their time was up {cut}:" in views.chaos_lines(found)[2]


def test_the_table_of_the_deployment_is_the_profile(project):
    profile = read_profile(project.data / FILE)
    rows = {row["name"]: row for row in views.deployment_rows(profile)}
    assert rows["court.window_s"] == {
        "name": "court.window_s",
        "value": f"{profile.court.window_s:,}",
        "unit": "s",
        "source": profile.sources["court.window_s"],
    }
    assert len(rows) == len(vars(profile.court)) + len(vars(profile.parties))


def test_drawings_show_every_event(run):
    import pandas as pd

    figures.use_style()
    events = pd.DataFrame(views.answer_events(run))
    _, axes = figures.subplots(7.16, 5.0, nrows=2, ncols=2, sharex="col")
    drawings.draw_answers(axes, events)
    drawn = sum(
        len(line.get_xdata()) for ax in axes.flat for line in ax.lines if line.get_marker() not in ("None", "", None)
    )
    assert drawn == len(events)
    words = {note.get_text() for ax in axes.flat for note in ax.texts}
    assert any("convicted" in word for word in words)
    assert any("final" in word for word in words)


@pytest.mark.parametrize("attack", ["no such lie", "an ordered token beyond the vocabulary"])
def test_an_unknown_attack_starts_nothing(project, attack, monkeypatch):
    monkeypatch.setattr(bench, "run_once", lambda *given, **named: pytest.fail("a network was started"))
    with pytest.raises(InputError, match="--attack"):
        bench.network_run(project, attack=attack, seconds=10, profile=read_profile(project.data / FILE))


def test_without_anvil_the_stored_run_is_shown_and_it_is_said(project, run, monkeypatch):
    monkeypatch.setattr(bench, "find_anvil", lambda folder: None)
    found, which = bench.watched_network(project, live=True, attack="none", seconds=10)
    assert found == run
    assert which == "the stored run: a live one needs anvil, and there is none here"
    assert bench.watched_network(project, live=False, attack="none", seconds=10)[1] == "the stored run"


@pytest.mark.slow
@needs_anvil
def test_a_run_under_another_window_moves_the_first_figure(project, run):
    """Deployed, waited for and drawn: the window of a profile that is not the one that ships."""
    own = read_profile(project.data / FILE)
    longer = replace(own, court=replace(own.court, window_s=2 * own.court.window_s))
    live = bench.network_run(project, attack=bench.ATTACK, seconds=600, profile=longer)
    assert live["broken"] == []
    (here,), (there,) = ([r for r in views.tiers(each) if r["event"].startswith("window over")] for each in (run, live))
    assert (there["end_s"] - there["start_s"]) - (here["end_s"] - here["start_s"]) == pytest.approx(own.court.window_s)
    waited = longer.court.window_s + longer.court.reveal_s
    assert any(waited <= each["seconds"] <= waited + 60 for each in views.time_moves(live))
    final = next(each["chain_s"] for each in live["events"] if each["event"] == "finalise")
    committed = [each["chain_s"] for each in live["events"] if each["event"] == "committed"]
    assert final - min(committed) >= waited
