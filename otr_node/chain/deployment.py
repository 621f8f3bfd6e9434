"""Where a court stands: what whoever wants to talk to it has to know, as a file.

Nothing in it is believed: terms and addresses are part of the contracts' code, and the code that
stands on chain has to be the one that the sources here, with these terms, compile to.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from otr_core.dispute.records import Terms
from otr_core.encoding import json_object, parse_json
from otr_core.errors import NodeError, OtrError

FORMAT = "otr-court/1"


@dataclass(frozen=True)
class Deployment:
    """The contracts of one court.

    Attributes:
        chain_id: EIP-155 number. block: that the first of them was deployed in, or one before.
        terms: of the court. registrar, arbiter: addresses; of nobody: zeros.
        registry, court, table: addresses. judges: by model id, hex.
    """

    chain_id: int
    block: int
    terms: Terms
    registrar: str
    arbiter: str
    registry: str
    court: str
    table: str
    judges: Mapping[str, str] = field(default_factory=dict)

    def dump(self) -> bytes:
        """The file: JSON and a line end. Sums of wei are too long for canonical JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode() + b"\n"


def load_deployment(raw: bytes) -> Deployment:
    """Read a file that ``otr chain deploy`` has written.

    Raises:
        NodeError: ``deployment``: it is none.
    """
    names = [own.name for own in fields(Deployment)]
    try:
        document: dict[str, Any] = json_object(parse_json(raw, what="deployment"), ["format", *names], what="it")
        if document.pop("format") != FORMAT:
            raise NodeError("deployment", "another format", FORMAT)
        judges = json_object(document["judges"], document["judges"], what="judges")
        for name in ("registrar", "arbiter", "registry", "court", "table"):
            document[name] = _address(document[name])
        document["registrar"] = document["registrar"].lower()  # callers are written so everywhere
        document["judges"] = {str(own): _address(where) for own, where in judges.items()}
        for name in ("chain_id", "block"):
            if type(document[name]) is not int or document[name] < 0:
                raise NodeError("deployment", f"{name} {document[name]!r}", "a whole number")
        terms = json_object(document["terms"], [own.name for own in fields(Terms)], what="terms")
        if not all(type(value) is int for value in terms.values()):
            raise NodeError("deployment", "terms that are no whole numbers", "terms")
        return Deployment(**{**document, "terms": Terms(**terms)})
    except NodeError:
        raise
    except (OtrError, TypeError) as error:
        raise NodeError("deployment", error, "a file of otr chain deploy") from error


def _address(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch("0x[0-9a-fA-F]{40}", value):
        raise NodeError("deployment", repr(value)[:60], "an address")
    return value
