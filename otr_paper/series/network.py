"""Plain rows for the figures and tables of notebook 09, and for F01, from a run of the network and from
the runs under chaos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from otr_core.dispute.profile import DeploymentProfile, profile_numbers, unit_of
from otr_paper.devnet.attacks import SILENT, WITHHELD
from otr_paper.devnet.faults import CLIENTS, SERVERS, answer_name, answered_by
from otr_paper.store.records import Records, records

KINDS: Mapping[str, tuple[str, ...]] = {
    "message": ("ordered", "received"),
    "own work": ("listening", "started", "answered", "judged"),
    "transaction": (
        *("staked", "registers a key", "committed", "paid", "challenge", "open", "move", "timeout"),
        *("demand", "lapse", "show", "reward", "withdraw", "finalise"),
    ),
    "verdict": ("slashed",),
}
"""What an event is: something handed over, something computed, something sent to the chain, a conviction."""
_KIND = {event: kind for kind, events in KINDS.items() for event in events}
_LEAVES = ("leaves",)
_SHOWN = CLIENTS[0]
"""The client whose answers are drawn: it is lied to, if anybody is."""


def answer_events(run: Mapping[str, Any]) -> Records:
    """The figure F66: every event that concerns the answers to one client, in order.

    Records of answer (its operator), cheated, process, event, kind, about (the move, what was received,
    what a fisherman found), game (0: none), since_s (machine's seconds since the answer was ordered),
    chain_s (the chain's), and moved (how often time was moved before).
    """
    events: Sequence[Mapping[str, Any]] = run["events"]
    whose, ordered, cheat = _answers(events), dict[str, Mapping[str, Any]](), _cheat(events)
    for event in events:
        if event["event"] == "ordered":
            ordered.setdefault(whose(event), event)
    rows, moved = [], 0
    for event in events:
        moved += event["event"] == "time moved"
        name, kind = whose(event), _KIND.get(event["event"])
        if not name or name not in ordered or kind is None or event.get("what") in _LEAVES:
            continue
        begin = ordered[name]
        clocks = round(event["s"] - begin["s"], 1), event["chain_s"] - begin["chain_s"]
        about = str(event.get("move") or event.get("what") or _found(event))
        row = (name, name == cheat, event["process"], event["event"], kind, about, event.get("game", 0), *clocks)
        rows.append((*row, moved))
    return records("answer, cheated, process, event, kind, about, game, since_s, chain_s, moved", rows)


def _found(event: Mapping[str, Any]) -> str:
    """What a fisherman has found by its own run."""
    return "" if event["event"] != "judged" else "as signed" if event["case"] is None else "false"


def _cheat(events: Sequence[Mapping[str, Any]]) -> str:
    """The operator that cheats; "": none does."""
    return next((each["process"] for each in events if each.get("who") == "cheating operator"), "")


def _answers(events: Sequence[Mapping[str, Any]]) -> Callable[[Mapping[str, Any]], str]:
    """A function that gives the operator whose answer to ``_SHOWN`` an event is about; "" where it is about none, or
    about another client's."""
    games = {each["game"]: each["answer"] for each in events if each["event"] == "open"}
    orders = {each["order"][:16]: each["answer"] for each in events if each["event"] == "ordered"}
    batches = {each["batch"]: each["answer"] for each in events if "batch" in each and _shown(each.get("answer", ""))}
    owners = {each["account"]: each["process"] for each in events if each["event"] == "started"}
    served = {server: operator for operator, server in SERVERS.items()}
    cheat = _cheat(events)

    def answer(event: Mapping[str, Any]) -> str:
        for names, key in ((games, "game"), (orders, "order"), (batches, "batch")):
            if key in event and "answer" not in event and event[key] in names:
                return _shown(str(names[event[key]]))
        if "answer" in event or "batch" in event:
            return _shown(str(event.get("answer", "")))
        operator = str(event.get("operator", ""))
        if operator:  # the key that a false answer is signed with is none that was registered on evidence
            none = operator == cheat and event["event"] == "registers a key"
            return "" if none else str(owners.get(operator, operator))
        own = served.get(event["process"], str(event["process"]))
        if own.startswith("operator"):
            return own
        return cheat if event["event"] == "withdraw" and own.startswith("fisherman") else ""

    return answer


def _shown(answer: str) -> str:
    """The operator of an answer, if it is one to ``_SHOWN``."""
    operator = answered_by(answer)
    return operator if answer == answer_name(operator, _SHOWN) else ""


def time_moves(run: Mapping[str, Any]) -> Records:
    """When the conductor moved the chain's time: records of s, seconds, why."""
    found = [each for each in run["events"] if each["event"] == "time moved"]
    return records("s, seconds, why", [(each["s"], each["seconds"], each["why"]) for each in found])


def parties(run: Mapping[str, Any]) -> str:
    """How many operators, fishermen and clients said something in a run, in words."""
    names = {"operator": "operators", "fisherman": "fishermen", "client": "clients"}
    said = Counter(process.partition("-")[0] for process in {each["process"] for each in run["events"]})
    return ", ".join(f"{said[party]} {several if said[party] != 1 else party}" for party, several in names.items())


def deeds(run: Mapping[str, Any]) -> Records:
    """The table T66: what each process did. Records of process, did (in words), transactions, and
    withdrawn (ether)."""
    rows = []
    for process in dict.fromkeys(each["process"] for each in run["events"]):
        own = [each for each in run["events"] if each["process"] == process]
        said = Counter(each["event"] for each in own if each.get("what") not in _LEAVES)
        sent = sum(count for event, count in said.items() if _KIND.get(event) == "transaction")
        sent -= said["registers a key"]  # the registrar's process sends it
        ether = sum(each["wei"] for each in own if each["event"] == "withdraw") / 10**18
        did = ", ".join(f"{event}{f' × {count}' if count > 1 else ''}" for event, count in said.items())
        rows.append((process, did, sent, f"{ether:g}" if ether else ""))
    return records("process, did, transactions, withdrawn (ether)", rows)


def tiers(run: Mapping[str, Any]) -> Records:
    """An honest and a cheated answer through receipt, chain and dispute: records of answer, tier, event,
    start_s, end_s and kind. Time begins when the order is there and a server runs.

    What the processes did is *measured*, by the machine's clock. The waits that the terms of the court
    ask for (window and time to open; time before a reward) are of the chain's clock, which was moved:
    *simulated*.

    Args:
        run: with an attack that is defended.
    """
    found, terms = answer_events(run), run["deployment"]
    rows = []
    for name, flag in (("honest", False), ("cheated", True)):
        own = [row for row in found if row["cheated"] is flag]
        at = {row["event"]: row["since_s"] for row in reversed(own)}
        begin = max(at.get("listening", at["started"]), 0.0)  # an operator that answers has no server
        got = next(row["since_s"] for row in own if row["about"] == "receipt")
        looks = [row["since_s"] for row in own if row["event"] == "judged"]
        judged = looks[0] if flag else looks[-1]  # a cheat is challenged by the first, an honest answer passed by all
        steps = [
            ("1 receipt", "computed, signed, received: provisional", begin, got, "measured"),
            ("2 dispute", f"run again by fishermen: {'false' if flag else 'as signed'}", got, judged, "measured"),
            ("chain", "committed" if flag else "key registered, committed", got, at["committed"], "measured"),
        ]
        if not flag:
            wait = terms["court.window_s"] + terms["court.reveal_s"]
            final = at["committed"] + wait
            steps.append(("chain", "window over, unchallenged: final", at["committed"], final, "simulated"))
        else:
            game = next(row["game"] for row in own if row["event"] == "move")
            moves = sum(row["event"] == "move" and row["game"] == game for row in own)
            claim = at["slashed"] + terms["court.claim_s"]
            steps += [
                ("2 dispute", "challenge committed, opened", judged, at["open"], "measured"),
                ("2 dispute", f"{moves} moves: convicted", at["open"], at["slashed"], "measured"),
                ("2 dispute", "earlier challenges could open: reward", at["slashed"], claim, "simulated"),
            ]
        rows += [(name, tier, event, start - begin, end - begin, kind) for tier, event, start, end, kind in steps]
    return records("answer, tier, event, start_s, end_s, kind", rows)


def answers_finding(run: Mapping[str, Any]) -> str:
    """What the figure F66 shows, in one sentence."""
    found = answer_events(run)
    when = {row["event"]: row for row in found if row["event"] in ("slashed", "finalise")}
    if "slashed" not in when:
        return "Nobody cheated: every answer became final after its window"
    given = next(row["since_s"] for row in found if row["cheated"] and row["about"] == "receipt")
    game = next((row["game"] for row in found if row["event"] == "move"), 0)
    moves = sum(row["event"] == "move" and row["game"] == game for row in found)
    after = when["slashed"]["since_s"] - given
    played = f", by {moves} moves" if moves else ", who did not play"
    final = "; the honest answer becomes final" if "finalise" in when else ""
    return f"The cheat is convicted {after:.1f} s after its receipt{played}{final}"


def chaos_finding(found: Mapping[str, Any]) -> str:
    """What the figure F67 shows, in one sentence."""
    runs, total = chaos_runs(found), found["summary"]
    slow = median(row["slowest_restart_s"] for row in runs if row["restarts"])
    return (
        f"{total['good']} of {total['runs']} runs end as promised; a run's slowest restart took {slow:.1f} s "
        f"in the median ({RESTART_S:g} s aimed for)"
    )


def chaos_lines(found: Mapping[str, Any]) -> list[str]:
    """The result ``chaos`` in four lines."""
    total, runs = found["summary"], found["runs"]
    went = ", ".join(f"{name} {count}" for name, count in total["faults"].items())
    timely = sum(row["taken_s"] is not None and row["taken_s"] <= row["bound_s"] for row in runs)
    cheats = f"cheats {total['cheats']}, convicted {total['cheats_slashed']}, within the bound {timely}"
    lost = f"challenges lost by honest fishermen {total['lost_bonds']}"
    cut = sum(not row["settled"] for row in runs)
    return [
        f"runs {total['runs']}, as promised {total['good']}; {cheats}; lying fishermen {total['false_challengers']}",
        f"honest operators slashed {total['honest_slashed']}, {lost}, receipts lost {total['lost_receipts']} of "
        f"{total['receipts']}",
        f"not settled when their time was up {cut}: a challenge that was still unopened then is not among the lost",
        f"went wrong: {went}; restarts {total['restarts']}",
    ]


def chaos_exceptions(found: Mapping[str, Any]) -> Records:
    """Runs of the result ``chaos`` that did not end as promised: records of seed, attack (its kind), broken
    (what did not hold), seconds (of the machine), bound_s, taken_s (of the chain)."""
    rows = [
        (row["seed"], attack_word(row["attack"]), "; ".join(row["broken"]), *(row[name] for name in _CLOCKS))
        for row in found["runs"]
        if row["broken"]
    ]
    return records(f"seed, attack, broken, {', '.join(_CLOCKS)}", rows)


def deployment_rows(profile: DeploymentProfile) -> Records:
    """The table T67: every number of a deployment. Records of name, value, unit, source."""
    numbers = profile_numbers(profile)
    return records(
        "name, value, unit, source",
        [(name, f"{value:,}", unit_of(name), profile.sources[name]) for name, value in numbers.items()],
    )


_CLOCKS = ("seconds", "bound_s", "taken_s")
RESTART_S = 5.0
"""That a restart was to take at most: the bar that this project set itself."""
ATTACK_WORDS = ("none", "false, defended", "false, silent", "withheld")
"""How operator 2 cheats, in kinds."""


def attack_word(name: str) -> str:
    """The kind of an attack."""
    if not name:
        return ATTACK_WORDS[0]
    if name == WITHHELD:
        return ATTACK_WORDS[3]
    return ATTACK_WORDS[2 if name.startswith(SILENT) else 1]


def chaos_runs(found: Mapping[str, Any]) -> Records:
    """The figure F67, one record a run of the result ``chaos``: seed, attack (its kind), restarts, faults,
    seconds (of the machine), slowest_restart_s, bound_s and taken_s (of the chain, to the conviction;
    None without a cheat), good (whether all held)."""
    rows = [
        (
            run["seed"],
            attack_word(run["attack"]),
            run["restarts"],
            sum(run["faults"].values()),
            run["seconds"],
            run["slowest_restart_s"],
            run["bound_s"],
            run["taken_s"],
            not run["broken"],
        )
        for run in found["runs"]
    ]
    return records("seed, attack, restarts, faults, seconds, slowest_restart_s, bound_s, taken_s, good", rows)
