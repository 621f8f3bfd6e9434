"""What ``otr appraise FILE…`` answers: the verdict on every node found, what others say, and where from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.chain import as_utc
from otr_core.errors import EvidenceError
from otr_node.evidence.intake import Intake
from otr_node.evidence.pieces import Use
from otr_node.evidence.tokens import Relayed, Token, read_token, relay, unrelated


@dataclass(frozen=True)
class Judgement:
    """Appraisals by the names of their nodes, in order, and what tokens relay beside them.

    Attributes:
        taken, ignored: as in ``Intake``.
    """

    nodes: Mapping[str, Appraisal]
    relayed: tuple[Relayed, ...]
    taken: tuple[Use, ...]
    ignored: tuple[Use, ...]

    @property
    def accepted(self) -> bool:
        """Whether every node is accepted."""
        return all(one.accepted for one in self.nodes.values())

    @property
    def appraisals(self) -> list[Appraisal]:
        return list(self.nodes.values())

    def document(self) -> dict[str, Any]:
        """One document: that of the appraisal, or one with those of all nodes in ``nodes``.

        With several nodes, ids of claims begin with ``node.<number>.``.
        """
        documents = [{"node": name, **one.as_json()} for name, one in self.nodes.items()]
        whole = dict(documents[0])
        if len(documents) > 1:
            names = [f"node.{number}." for number in range(len(documents))]
            both = list(zip(names, documents, strict=True))
            whole = {name: whole[name] for name in ("format", "as_of", "policy")}
            whole["verdict"] = "accepted" if self.accepted else "rejected"
            whole["because"] = [f"{name}{claim}" for name, one in both for claim in one["because"]]
            whole["claims"] = [claim | {"id": f"{name}{claim['id']}"} for name, one in both for claim in one["claims"]]
            whole["nodes"] = documents
        for part in ("relayed", "taken", "ignored"):
            whole[part] = [dict(vars(row)) for row in getattr(self, part)]
        return whole


def judge(found: Intake, appraise_one: Callable[[Any], Appraisal], as_of: datetime) -> Judgement:
    """The outcome for what intake found.

    Args:
        appraise_one: appraises one bundle, under the policy and the nonce of the caller.
    """
    nodes = {node.name: appraise_one(node.bundle) for node in found.nodes}
    tokens, ignored = list[Token](), list(found.ignored)
    for number, text in enumerate(found.tokens):
        try:
            tokens.append(read_token(text, found.keys, as_utc(as_of)))
        except EvidenceError as error:
            ignored.append(Use("token", f"token {number}", "", f"unreadable: {error}"))
    rows = [row for one in nodes.values() for row in relay(tokens, one)]
    return Judgement(nodes, (*rows, *unrelated(tokens, rows)), found.taken, tuple(ignored))
