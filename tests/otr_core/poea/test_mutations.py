"""No value of a receipt file can be changed, dropped, doubled, written otherwise or taken from
elsewhere, by nobody who holds the file and by no operator who holds the attested key: every
mutation is rejected by the check that covers its place, or is unreadable and named.

``mutations.OPEN`` says what an attested operator can still sign as it likes, and a test holds it to
be all.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any

import pytest

from otr_core.errors import InputError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea import PlacedOrder, check_answer, load_receipt_file
from otr_core.poea.manifest import ModelManifest
from tests.helpers.mutations import (
    OPEN,
    OPERATOR,
    OUTSIDER,
    REWRITER,
    UNREADABLE,
    Mutation,
    Path,
    lies,
    lookup,
    mutations,
    paths,
    repaired,
)
from tests.helpers.receipts import ALLOW, MODEL, NOW, enclave, forged, ordered, signed

ORDERS = {sealed: ordered(sealed=sealed) for sealed in (False, True)}
FILES = {sealed: json.loads(signed(placed).dump()) for sealed, placed in ORDERS.items()}
PLACES = [(sealed, path) for sealed in FILES for path in paths(FILES[sealed])]


@functools.cache
def donors(sealed: bool) -> dict[str, Any]:
    """Honest files with everything in them another: by what made them so."""
    other = ordered((5, 9, 12), 2, sealed=sealed, decoding=Decoding(15, 6, 0))
    own, tee = ORDERS[sealed], enclave(secret=b"t" * 32, gpu_nonce=b"\xcd" * 32)
    manifest = ModelManifest("d1" * 32, 8, "e2" * 32, {**MODEL.config(), "vocab_size": 101}, "f4" * 32, "portable-1")
    measured = enclave(model_id=manifest.model_id)
    model = ordered(sealed=sealed, model_id=manifest.model_id)
    files = {
        "another order": signed(other),
        "another answer": forged(own, ids=(3, 5, 2), configuration={"lane": "native-float32", "threads": 2}),
        "another enclave": signed(ordered(sealed=sealed, tee=tee), tee=tee),
        "another model": forged(model, tee=measured, model=manifest),
    }
    return {name: json.loads(file.dump()) for name, file in files.items()}


def name_of(place: Any) -> str:
    return ".".join(map(str, place)) if isinstance(place, tuple) else {False: "plain", True: "sealed"}[place]


def outcome(raw: bytes, placed: PlacedOrder) -> tuple[str, str]:
    """Name of the check that rejects a file, and the message; "" when it is accepted."""
    try:
        check_answer(load_receipt_file(raw), placed, policy=ALLOW, as_of=NOW, nonces=None)
    except ReceiptError as error:
        return error.check, str(error)
    except InputError as error:
        return UNREADABLE, str(error)
    return "", "accepted"


def hold(sealed: bool, path: Path, tried: Iterable[Mutation]) -> int:
    """Every mutation ends as it must; how many there were."""
    number = 0
    for mutation in tried:
        number += 1
        check, message = outcome(mutation.raw, ORDERS[sealed])
        where = f"{name_of(path)}, {mutation.label}: {message}"
        assert check == mutation.expected, where
        assert "\n" not in message, where
        assert len(message) < 1000, where
        if check == UNREADABLE and mutation.named:
            assert message.startswith("receipt file"), where
            assert any(name in message for name in mutation.named), where
    return number


@pytest.mark.parametrize("sealed", [False, True], ids=name_of)
def test_the_files_that_are_mutated_are_accepted(sealed: bool) -> None:
    raw = signed(ORDERS[sealed]).dump()
    assert outcome(raw, ORDERS[sealed]) == ("", "accepted")
    # and so is what the forger makes when it does not lie
    assert outcome(forged(ORDERS[sealed]).dump(), ORDERS[sealed]) == ("", "accepted")
    for who in (OUTSIDER, OPERATOR, REWRITER):
        assert repaired(json.loads(raw), who, ()) == raw


@pytest.mark.parametrize(("sealed", "path"), PLACES, ids=name_of)
def test_an_outsider_changes_nothing(sealed: bool, path: Path) -> None:
    assert hold(sealed, path, mutations(FILES[sealed], donors(sealed), path)) >= 3


@pytest.mark.parametrize("who", [OPERATOR, REWRITER])
@pytest.mark.parametrize(("sealed", "path"), PLACES, ids=name_of)
def test_an_operator_who_signs_again_changes_nothing_that_was_ordered_or_said(
    sealed: bool, path: Path, who: str
) -> None:
    hold(sealed, path, lies(FILES[sealed], who, path))


@pytest.mark.parametrize("sealed", [False, True], ids=name_of)
def test_another_model_under_an_id_that_fits_it_is_not_the_one_ordered(sealed: bool) -> None:
    tried = [(path, lies(FILES[sealed], OUTSIDER, path)) for sealed_, path in PLACES if sealed_ is sealed]
    assert sum(hold(sealed, path, found) for path, found in tried if path[0] == "model") >= 20


def test_there_are_many_of_them() -> None:
    kinds: dict[str, int] = {}
    for sealed, path in PLACES:
        kinds["outsider"] = kinds.get("outsider", 0) + sum(1 for _ in mutations(FILES[sealed], donors(sealed), path))
        for who in (OPERATOR, REWRITER):
            kinds[who] = kinds.get(who, 0) + sum(1 for _ in lies(FILES[sealed], who, path))
    assert kinds["outsider"] >= 1000
    assert min(kinds.values()) >= 100


@pytest.mark.parametrize("sealed", [False, True], ids=name_of)
def test_what_an_attested_operator_can_sign_as_it_likes_is_what_open_says(sealed: bool) -> None:
    """These lies are for disputes and spot checks: whoever reads the table must know of them."""
    for path in OPEN:
        document = json.loads(signed(ORDERS[sealed]).dump())
        other = {"states_root": "5c" * 32, "threads": 64}[str(path[-1])]
        lookup(document, path[:-1])[path[-1]] = other
        assert outcome(repaired(document, OPERATOR, path), ORDERS[sealed])[0] == ""


def texts(raw: bytes) -> dict[str, bytes]:
    """The same document, written otherwise as a whole."""
    document, text = json.loads(raw), raw.decode()
    return {
        "UTF-16": text.encode("utf-16"),
        "UTF-16 without a mark": text.encode("utf-16-le"),
        "UTF-32": text.encode("utf-32"),
        "a byte order mark": b"\xef\xbb\xbf" + raw,
        "pretty": json.dumps(document, indent=2, sort_keys=True).encode() + b"\n",
        "spaces": json.dumps(document, sort_keys=True).encode() + b"\n",
        "another order of keys": json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode() + b"\n",
        "no line end": raw[:-1],
        "two line ends": raw + b"\n",
        "carriage return": raw[:-1] + b"\r\n",
        "a space before": b" " + raw,
        "a zero byte after": raw + b"\0",
        "a second document": raw + raw,
        "a list around it": b"[" + raw[:-1] + b"]\n",
        "cut": raw[: len(raw) // 2],
        "nothing": b"",
        "one byte": b"{",
        "not UTF-8": raw.replace(b'"native', b'"\xffnative', 1),
    }


@pytest.mark.parametrize("sealed", [False, True], ids=name_of)
@pytest.mark.parametrize("label", texts(b"{}\n"))
def test_a_document_has_one_encoding(sealed: bool, label: str) -> None:
    check, message = outcome(texts(signed(ORDERS[sealed]).dump())[label], ORDERS[sealed])
    assert check == UNREADABLE
    assert message.startswith("receipt file: ")
    assert "\n" not in message
