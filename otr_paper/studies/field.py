"""What production inference in TEEs attests: every recorded answer of the field, check by check.

The answers and what vendors said in the same minute are outside data, recorded by others. They are
appraised under the default policy as of the minute of the recording, with the nonce that the client
sent. What is kept are facts and figures, no evidence. A status counts claims: of a machine of eight
GPUs, a check on GPUs counts eight times.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from otr_core.attestation import Policy, appraise
from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.chain import VerifiedCache, stamp
from otr_core.attestation.claims import CHECKS, Status
from otr_core.attestation.quote import Collateral
from otr_node import outside
from otr_node.evidence.intake import Node, read_evidence
from otr_node.evidence.outcome import judge
from otr_node.evidence.pieces import as_nonce
from otr_node.project import Project

RESULT, SOURCE = "field", "field-captures"
#: Providers by how their folders begin.
PROVIDERS = {
    "chutes": "Chutes",
    "nanogpt": "NanoGPT",
    "nearcloud": "NEAR cloud",
    "neardirect": "NEAR direct",
    "phalacloud": "Phala",
    "tinfoil": "Tinfoil",
    "venice": "Venice",
}
#: Status that a cell of the matrix shows: the first of these that some claim has.
SHOWN = (Status.REFUTED, Status.UNKNOWN, Status.ASSERTED, Status.NOT_MADE)
#: What an event that names weights would have in its name.
_WEIGHTS = ("model", "weight", "checkpoint")


@dataclass(frozen=True)
class Recorded:
    """One answer: who gave it, when, its files (name, bytes), and the nonce that the client sent."""

    provider: str
    moment: datetime
    files: tuple[tuple[str, bytes], ...]
    nonce: bytes | None


def recorded_answers(project: Project) -> list[Recorded]:
    """All answers of the source.

    Raises:
        MissingDataError: they are not here.
    """
    mirror, names = outside.mirror_folder(), outside.load_sources(project)[SOURCE].files
    data = {name: outside.get(project, SOURCE, name, mirror=mirror).read_bytes() for name in names}
    folders: dict[str, dict[str, bytes]] = defaultdict(dict)
    for name, content in data.items():
        folder, _, file = name.partition("/")
        folders[folder][file] = content
    return [one for folder, files in sorted(folders.items()) for one in _answers(folder, files)]


def _answers(folder: str, files: Mapping[str, bytes]) -> Iterator[Recorded]:
    provider = next(name for start, name in PROVIDERS.items() if folder.startswith(start))
    if "manifest.json" in files:
        manifest = json.loads(files["manifest.json"])
        moment = datetime.fromisoformat(manifest["captured_at"]).astimezone(UTC)
        yield Recorded(provider, moment, tuple(sorted(files.items())), bytes.fromhex(manifest["nonce_hex"]))
        return
    moment = datetime.strptime("".join(folder.split("_")[1:3]), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    for name in sorted(files):
        if name.endswith("_attestation.json"):
            nonce = as_nonce(files[name.replace("_attestation.json", "_nonce.txt")].decode())
            yield Recorded(provider, moment, ((name, files[name]),), nonce)


def field_rows(answers: list[Recorded]) -> dict[str, Any]:
    """Rows by provider and day: claims by status, windows, devices, relayed tokens, event names."""
    claims: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    seen: dict[str, set[str]] = defaultdict(set)
    relayed: Counter[tuple[str, str, str]] = Counter()
    events: dict[str, set[str]] = defaultdict(set)
    windows, totals, cache = [], defaultdict[tuple[str, str], Counter[str]](Counter), VerifiedCache()
    for answer in answers:
        key = (answer.provider, answer.moment.date().isoformat())
        found = read_evidence(answer.files, cache=cache)
        outcome = judge(found, _appraiser(answer, cache), answer.moment)
        totals[key].update(answers=1, nodes=len(found.nodes), accepted=sum(one.accepted for one in outcome.appraisals))
        for node, result in zip(found.nodes, outcome.appraisals, strict=True):
            totals[key].update(gpus=len(result.devices), **_tcb(result))
            for claim in result.claims:
                claims[(*key, claim.check)][claim.status.value] += 1
            for device in result.devices:
                seen[str(device.facts["ueid"])].add(answer.provider)
            for event in (result.cpu or {}).get("runtime_events", []):
                events[str(event["event"])].add(answer.provider)
            windows += [window for window in [_window(node, key)] if window]
        relayed.update((*key, row.outcome) for row in outcome.relayed)
    names = {name: sorted(providers) for name, providers in events.items()}
    weights = sorted(name for name in names if any(word in name.lower() for word in _WEIGHTS))
    return {
        "claims": [
            {"provider": who, "date": day, "check": check, **{one.value: counts[one.value] for one in Status}}
            for (who, day, check), counts in sorted(claims.items(), key=lambda one: (*one[0][:2], _order(one[0][2])))
        ],
        "answers": [{"provider": who, "date": day, **counts} for (who, day), counts in sorted(totals.items())],
        "windows": windows,
        "devices": [
            {"providers": " and ".join(who), "devices": count}
            for who, count in sorted(Counter(tuple(sorted(who)) for who in seen.values()).items())
        ],
        "relayed": [
            {"provider": who, "date": day, "outcome": outcome, "claims": count}
            for (who, day, outcome), count in sorted(relayed.items())
        ],
        "events": [{"event": name, "providers": ", ".join(who)} for name, who in sorted(names.items())],
        "events_that_name_weights": weights,
    }


def _order(check: str) -> int:
    return list(CHECKS).index(check)


def _appraiser(answer: Recorded, cache: VerifiedCache) -> Callable[[Any], Appraisal]:
    policy = Policy.default()
    return lambda bundle: appraise(bundle, policy, answer.moment, nonce=answer.nonce, cache=cache)


def _tcb(result: Appraisal) -> dict[str, int]:
    return {} if result.cpu is None else {f"tcb {result.cpu['tcb_status'] or 'not shown'}": 1}


def _window(node: Node, key: tuple[str, str]) -> dict[str, Any] | None:
    """When all dated parts of a node's collateral hold at once; None without collateral."""
    collateral = node.bundle.collateral
    if not isinstance(collateral, Collateral):
        return None
    start = max(one for _, one, _ in collateral.windows)
    name, end = min(((name, one) for name, _, one in collateral.windows), key=lambda pair: pair[1])
    days = round((end - start).total_seconds() / 86_400, 1)
    return {"provider": key[0], "date": key[1], "from": stamp(start), "to": stamp(end), "days": days, "ends": name}


def shown_statuses(rows: Mapping[str, Any]) -> list[dict[str, str]]:
    """The matrix of the stored rows: for each answer and check one status, that which decides.

    A check that is refuted on one device is not asserted, whatever holds for the others. One that is
    not made for a part of an answer (a gateway without GPUs) is shown for the other parts.
    """
    return [
        {
            "answer": f"{row['provider']}\n{row['date']}",
            "check": row["check"],
            "status": next(one.value for one in SHOWN if row[one.value]),
        }
        for row in rows["claims"]
    ]
