"""Every value of a receipt file, changed, dropped, doubled, written otherwise or taken from elsewhere.

What must reject a mutation is derived here from what the value is and who mutates, before anything
is run: ``RULES`` names the check that covers each part, and a value that is not of its form is
unreadable.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from otr_core.errors import ModelError
from otr_core.poea import Message, Order
from otr_core.poea.manifest import ModelManifest
from otr_core.poea.receipt import Receipt, configuration_digest, sign_receipt
from tests.helpers.receipts import MODEL, enclave

Path = tuple[str | int, ...]

UNREADABLE = "unreadable"
OUTSIDER, OPERATOR, REWRITER = "outsider", "operator", "rewriter"
"""Who mutates: whoever holds the file; an operator who signs the receipt again with the attested
key, all digests in it made to fit; one who also makes the order in the file fit, under its own
domain."""

RULES = {
    ("format",): UNREADABLE,
    ("order",): "order",
    ("model",): UNREADABLE,
    ("query",): "query-digest",
    ("response",): "response-digest",
    ("prompt_proof",): "prompt",
    ("configuration",): "configuration-digest",
    ("configuration", "lane"): "lane",
    ("signature",): "signature",
    ("keys",): "keys-bound",
    ("evidence",): "appraisal",
    ("receipt",): UNREADABLE,
    ("receipt", "order_id"): "order",
    ("receipt", "prompt_tokens"): "prompt",
    # The proof that the prompt begins the tree is the same for trees of 5 to 8 leaves.
    ("receipt", "answer_tokens"): "signature",
    ("receipt", "finish"): "finish",
    ("receipt", "states_root"): "signature",
    ("receipt", "tokens_root"): "prompt",
    ("receipt", "seed_hash"): "signature",
    ("receipt", "response_digest"): "response-digest",
    ("receipt", "lane"): "lane",
    ("receipt", "layers"): "trace-shape",
    ("receipt", "output_bytes"): "trace-shape",
    ("receipt", "kv_bytes"): "trace-shape",
    ("receipt", "configuration_digest"): "configuration-digest",
    ("receipt", "key_id"): "keys-bound",
}
"""Path below which a well-formed other value stands -> what rejects it; the longest path counts."""

KEY_HOLDER = {
    ("receipt", "answer_tokens"): "answer-tokens",
    ("receipt", "seed_hash"): "trace-seed",
}
"""The same where the operator signs again, if it differs."""

OPEN = {("receipt", "states_root"), ("configuration", "threads")}
"""What an attested operator may sign whatever it likes: only disputes and spot checks judge it."""

TAKEN = {
    ("receipt", "another order"): "order",
    ("receipt", "another answer"): "prompt",
    ("receipt", "another model"): "order",
    ("receipt", "another enclave"): "keys-bound",
    ("evidence", "another enclave"): "keys-bound",
    ("evidence.gpu_report", "another enclave"): "gpu-nonce-bound",
    ("model", "another model"): "measured-model",
    ("evidence", "another model"): "measured-model",
}
"""Whole parts taken from elsewhere, where another check than that of the part's values comes
first."""

#: Parts whose content has no form of its own at reading: judged by a check whatever it is.
_FREE = (("configuration",), ("evidence",), ("query", "plain"), ("response", "plain"))


@dataclass(frozen=True)
class Mutation:
    """One mutated file, and what must reject it.

    Attributes:
        label: what was done. raw: the file. expected: name of a check, or ``UNREADABLE``.
        named: what the message of an unreadable file must have in it.
    """

    label: str
    raw: bytes
    expected: str
    named: tuple[str, ...]


def text(value: Any) -> str:
    """Canonical JSON of a value without small or large fractions and keys beyond the first plane."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def paths(value: Any, at: Path = ()) -> list[Path]:
    """Every place in a JSON value: members and items, leaves and containers."""
    if isinstance(value, dict):
        below = [(*at, name) for name in value]
    else:
        below = [(*at, i) for i in range(len(value))] if isinstance(value, list) else []
    return [found for path in below for found in [path, *paths(lookup(value, path[len(at) :]), path)]]


def lookup(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def changed(document: Any, path: Path, *value: Any) -> Any:
    """The document with another value at ``path``, or without one; the rest is shared."""
    own: Any = copy.copy(document)
    if len(path) > 1:
        own[path[0]] = changed(document[path[0]], path[1:], *value)
    elif value:
        own[path[0]] = value[0]
    else:
        del own[path[0]]
    return own


def written(document: Any, path: Path, literal: str) -> bytes:
    """The file with the text ``literal`` in place of the value at ``path``."""
    return (text(changed(document, path, "here it goes")).replace('"here it goes"', literal) + "\n").encode()


def dropped(document: Any, path: Path) -> bytes:
    return (text(changed(document, path)) + "\n").encode()


def values(value: Any, path: Path) -> Iterator[tuple[str, Any, bool]]:
    """Other values for one: what it is, the value, and whether a reader takes it at this place."""
    if isinstance(value, str) and is_hex(value):
        for at in (len(value) // 2, -1):
            yield (
                f"digit {at}",
                value[:at] + ("5" if value[at] != "5" else "6") + (value[at + 1 :] if at != -1 else ""),
                True,
            )
        yield "reversed", value[::-1], path != ("keys", "signing")
        yield "zeros", "0" * len(value), path != ("keys", "signing")
        sealed = path[-1] == "sealed"
        yield "one byte less", value[:-2], sealed
        yield "one byte more", value + "00", sealed
        yield "no byte", "", sealed
        yield "one digit less", value[:-1], False
        yield "upper case", value.upper(), False
        yield "spaces", " ".join(value[i : i + 2] for i in range(0, len(value), 2)), False
        yield "0x", "0x" + value, False
        yield "wide digits", value.translate({ord("0") + i: 0xFF10 + i for i in range(10)}), False
        yield "lone surrogate", "\ud800" + value[1:], False
    elif isinstance(value, str):
        others = {"finish": "length", "lane": "portable-1"}
        yield "another", others.get(str(path[-1]), value + "x"), path[-1] in others
        yield "upper case", value.upper(), path[-1] == "lane" and path[0] == "receipt"
        yield "empty", "", path[-1] == "lane" and path[0] == "receipt"
        yield "a number", 1, False
    elif type(value) is int:
        yield "one more", value + 1, True
        if value > 1:
            yield "one less", value - 1, True
        yield "a text", str(value), False
        yield "true", True, False
        yield "a half", value + 0.5, False
        yield "negative", -1, False
        yield "2^53 - 1", 2**53 - 1, path[-1] in ("chain_id", "seed")
    elif type(value) is bool:
        yield "the other", not value, True
        yield "a number", int(value), False
    elif type(value) is float:
        yield "twice as much", value * 2, True
    yield "null", None, False
    yield "a list of it", [value], False
    if value != {}:
        yield "an object", {}, path[-1] in ("plain", "configuration", "evidence")


def is_hex(value: str) -> bool:
    return len(value) >= 64 and set(value) <= set("0123456789abcdef")


def encodings(document: Any, path: Path) -> Iterator[tuple[str, bytes, str]]:
    """The same value written otherwise: what was done, the file, and what the message says."""
    value, name = lookup(document, path), path[-1]
    plain = text(value)
    if isinstance(name, str):
        yield "key twice", written(document, path, f'{plain},"{name}":{plain}'), f"key '{name}' found twice"
        yield "key twice, first null", written(document, path, f'null,"{name}":{plain}'), f"key '{name}' found twice"
    if isinstance(value, str) and value:
        yield "\\u escape", written(document, path, f'"\\u{ord(value[0]):04x}{plain[2:]}'), "from byte"
    if type(value) is int:
        for other in (f"{value}.0", f"{value}e0", f"{value}E+0", f" {value}"):
            yield other, written(document, path, other), "from byte"
        yield "leading zero", written(document, path, f"0{value}"), "not readable"
        yield "NaN", written(document, path, "NaN"), "NaN"
        yield "5,000 digits", written(document, path, "1" * 5000), "digits"
        yield "1,000 digits", written(document, path, "1" * 1000), "canonical JSON"
    if isinstance(value, dict) and len(value) > 1:
        turned = ",".join(f'"{key}":{text(value[key])}' for key in sorted(value, reverse=True))
        yield "keys in another order", written(document, path, f"{{{turned}}}"), "from byte"
    if isinstance(value, dict | list) and value:
        yield "a space", written(document, path, plain[0] + " " + plain[1:]), "from byte"
        yield "a comma more", written(document, path, plain[:-1] + "," + plain[-1]), "not readable"


def rule(who: str, path: Path) -> str:
    """What rejects another well-formed value at ``path``."""
    for table in (RULES,) if who == OUTSIDER else (KEY_HOLDER, RULES):
        for length in range(len(path), 0, -1):
            if path[:length] in table:
                return table[path[:length]]
    raise LookupError(path)


def mutations(document: Any, donors: dict[str, Any], path: Path) -> Iterator[Mutation]:
    """What an outsider can do to the value at ``path``."""
    value, free = lookup(document, path), any(path[: len(part)] == part and path != part for part in _FREE)
    strict, loose = (UNREADABLE, rule(OUTSIDER, path)) if not free else (rule(OUTSIDER, path),) * 2
    names = tuple(str(step) for step in path if isinstance(step, str))[-1:]
    if path[0] == "model" and len(path) > 1:
        names += ("config", "model_id")
    whole = isinstance(value, dict | list)
    for label, other, formed in values(value, path):
        if other == value and type(other) is type(value):
            continue
        if path == ("configuration",) and other == {}:
            yield Mutation(label, written(document, path, "{}"), "lane", names)
        elif isinstance(other, str) and "\ud800" in other:
            literal = json.dumps(other)
            yield Mutation(label, written(document, path, literal), UNREADABLE, names)
        else:
            literal = text(other)
            yield Mutation(label, written(document, path, literal), loose if formed else strict, names)
    above = names if path[0] == "model" or isinstance(path[-1], str) else (str(path[-2]),)
    in_proof = path[0] == "prompt_proof" and len(path) > 1
    yield Mutation("dropped", dropped(document, path), "prompt" if in_proof else strict, above)
    for label, raw, says in encodings(document, path):
        yield Mutation(label, raw, UNREADABLE, (says,))
    if isinstance(value, dict):
        more = strict if not any(path[: len(part)] == part for part in _FREE) else rule(OUTSIDER, path)
        literal = text({**value, "more": 1})
        yield Mutation("a member more", written(document, path, literal), more, ("more", *names))
    elif isinstance(value, list):
        formed = path == ("prompt_proof",)
        yield Mutation("emptied", written(document, path, "[]"), "prompt" if formed else strict, names)
        twice = text([value[0], *value])
        yield Mutation("an item twice", written(document, path, twice), "prompt" if formed else strict, names)
    for whence, donor in donors.items():
        try:
            other = lookup(donor, path)
        except (LookupError, TypeError):
            continue
        if other != value:
            part = ".".join(map(str, path))
            expected = TAKEN.get((part, whence), loose) if whole else loose
            literal = text(other)
            yield Mutation(f"from {whence}", written(document, path, literal), expected, names)


def repaired(document: Any, who: str, path: Path) -> bytes:
    """The file after ``who`` has made everything fit what stands at ``path``, and signed again."""
    tee, model = enclave(), {name: value for name, value in document["model"].items() if name != "model_id"}
    if path != ("model", "model_id"):
        document["model"]["model_id"] = ModelManifest(**model).model_id.hex()
    if who != OUTSIDER:
        receipt = document["receipt"]
        fitting = {
            "response_digest": Message.from_json("response", document["response"]).digest,
            "configuration_digest": configuration_digest(document["configuration"]),
        }
        if who == REWRITER:
            if path != ("order", "query_digest"):
                document["order"]["query_digest"] = Message.from_json("query", document["query"]).digest.hex()
            fitting["order_id"] = Order.from_json(document["order"]).id
        receipt |= {name: value.hex() for name, value in fitting.items() if path != ("receipt", name)}
        if path != ("signature",):
            order = Order.from_json(document["order"])
            signed = sign_receipt(tee.signing_key, order, Receipt.from_json(receipt))
            document["signature"] = signed.signature.hex()
    return (text(document) + "\n").encode()


def lies(document: Any, who: str, path: Path) -> Iterator[Mutation]:
    """What ``who`` can do to the value at ``path``, everything else made to fit it."""
    if path[:2] in OPEN or path[0] in ("format", "evidence") or path in (("configuration",), ("model", "model_id")):
        return  # lies about evidence need its signer; an operator may sign whatever configuration it likes
    free = any(path[: len(part)] == part and path != part for part in _FREE)
    for label, other, formed in values(lookup(document, path), path):
        lie = copy.deepcopy(changed(document, path, other))
        if other == lookup(document, path) or not (formed or free) or "surrogate" in label:
            continue
        if path[:2] == ("response", "plain"):
            expected = spoken(lie["response"]["plain"])
        elif path[0] == "response":
            expected = "response"  # it does not open
        elif path[0] == "query" and who == REWRITER:
            expected = "order"
        else:
            expected = "measured-model" if path[0] == "model" else rule(who, path)
        try:
            raw = repaired(lie, who, path)
        except ModelError:  # no decoder has this shape, so that no model id stands for it
            continue
        yield Mutation(label, raw, expected, ())


def spoken(says: Any) -> str:
    """What rejects a plain response that the receipt's digest fits, and its token tree does not."""
    ids, seed = says.get("token_ids"), says.get("trace_seed")
    well_formed = isinstance(ids, list) and ids and all(type(each) is int and 0 <= each < 2**32 for each in ids)
    if not well_formed or not isinstance(seed, str) or not is_hex(seed) or len(seed) != 64:
        return "response"
    if len(ids) != 3 or max(ids) >= MODEL.vocab:
        return "answer-tokens"
    if [at for at, token in enumerate(ids) if token in MODEL.stop_ids] != [2]:
        return "stop"
    return "tokens-root" if ids != [3, 4, 2] else "trace-seed"
