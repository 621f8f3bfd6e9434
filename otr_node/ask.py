"""A client of ``otr serve``: orders, fetches the receipt, checks it, and only then shows the answer."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from otr_core import merkle
from otr_core.encoding import json_object, parse_json
from otr_core.errors import InputError, OtrError, ReceiptError, ServiceError, one_line
from otr_core.poea import PlacedOrder
from otr_core.poea.attested import appraise_evidence
from otr_core.poea.client import CheckedAnswer, check_answer
from otr_core.poea.document import ReceiptFile, load_receipt_file
from otr_core.poea.receipt import AttestedKeys
from otr_core.poea.tee import EvidencePolicy
from otr_node.chain.places import load_place

_MOST_BYTES = 2**26  # of a server's answer
_PAUSE_S = 0.5


class _Refusing(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: an order goes to nobody else."""

    def redirect_request(self, *args: Any) -> None:
        return None


@dataclass(frozen=True)
class RemoteServer:
    """A server by its URL.

    Attributes:
        url: http or https, with host, without path or query. key: shown to it, if it asks for one.
        wait_s: for an answer, at most.

    Raises:
        InputError: no such URL.
    """

    url: str
    key: str | None = None
    wait_s: float = 600.0

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
            raise InputError(f"URL: found {self.url[:80]!r}, expected one such as http://127.0.0.1:8000")

    def asked(self, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and bytes of the answer to a request.

        Raises:
            InputError: nothing that speaks HTTP is there.
            ServiceError: the server refuses.
        """
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {self.key}"} if self.key else {})}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url.rstrip("/") + path, data=data, headers=headers)
        opener = urllib.request.build_opener(_Refusing, urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=self.wait_s) as answer:
                raw = answer.read(_MOST_BYTES + 1)
                status = int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                raise _refused(error.code, error.read(2**16), error.headers) from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise InputError(f"{self.url}: no answer ({one_line(error)}), expected a server there") from error
        if len(raw) > _MOST_BYTES:
            raise ServiceError(502, "too_large", f"{self.url}: found more than {_MOST_BYTES} bytes")
        return status, raw

    def attested_keys(self, model_id: bytes, policy: EvidencePolicy, as_of: int) -> AttestedKeys:
        """The keys of an enclave that has measured the ordered model, from evidence that the policy
        accepts: to seal a query to.

        Raises:
            ReceiptError: the evidence, or what it says, is not acceptable. ServiceError: refused.
        """
        parts = _object(self.asked("/v1/attestation")[1])
        try:
            keys = AttestedKeys.from_json(parts.get("keys"))
            evidence = json_object(parts.get("evidence"), what="evidence")
        except InputError as error:
            raise ServiceError(502, "bad_answer", f"{self.url}: {error}") from error
        claims = appraise_evidence(evidence, policy, as_of)
        for check, found, expected in (
            ("keys-bound", keys.digest, claims.report_data[:32]),
            ("gpu-nonce-bound", claims.gpu_nonce, claims.report_data[32:]),
            ("measured-model", claims.measured_model, model_id),
        ):
            if found != expected:
                raise ReceiptError(check, found.hex(), expected.hex())
        return keys

    def receipt(self, placed: PlacedOrder) -> ReceiptFile:
        """Send an order, and fetch the receipt of its answer; one that the server has begun already is
        waited for, and never ordered twice.

        Raises:
            ServiceError: refused, or no receipt in time. ReceiptError: check "response": not a receipt.
        """
        until = time.monotonic() + self.wait_s
        try:
            self.asked("/v1/chat/completions", {"otr_order": json.loads(placed.sent)})
        except ServiceError as error:
            if error.code not in ("order_taken", "timeout"):
                raise
        while True:
            status, raw = self.asked(f"/v1/receipts/{placed.order.id.hex()}")
            if status == 200:
                break
            if time.monotonic() > until:
                raise ServiceError(504, "timeout", f"{self.url}: found no receipt after {self.wait_s:g} s")
            time.sleep(_PAUSE_S)
        try:
            return load_receipt_file(raw)
        except InputError as error:
            raise ReceiptError("response", error, "a receipt file") from error

    def leaves(self, file: ReceiptFile) -> bytes:
        """The hashes of the leaves of an answer's states, as ``dump_leaves`` joins them, which are those
        that the receipt commits to.

        Raises:
            ServiceError: refused. ReceiptError: check "leaves": they are others.
        """
        _, raw = self.asked(f"/v1/receipts/{file.receipt.order_id.hex()}/leaves")
        count = file.receipt.trace.leaves
        if len(raw) != 32 * count:
            raise ReceiptError("leaves", f"{len(raw)} bytes", f"{count} hashes of 32")
        found = merkle.root_of_hashes([raw[at : at + 32] for at in range(0, len(raw), 32)])
        if found != file.receipt.states_root:
            raise ReceiptError("leaves", f"the root {found.hex()}", file.receipt.states_root.hex())
        return raw

    def place(self, file: ReceiptFile, wait_s: float | None = None) -> bytes:
        """The place file of a receipt (``dump_place``), as soon as its batch stands on chain. Whether it
        does, who watches the chain sees.

        Args:
            wait_s: for its batch, at most; None: as long as for an answer.

        Raises:
            ServiceError: refused, or no place in time. ReceiptError: check "place": it is none.
        """
        until = time.monotonic() + (self.wait_s if wait_s is None else wait_s)
        while True:
            try:
                _, raw = self.asked(f"/v1/receipts/{file.receipt.order_id.hex()}/place")
                break
            except ServiceError as error:
                if error.code != "no_place" or time.monotonic() > until:
                    raise
            time.sleep(_PAUSE_S)
        try:
            load_place(raw)
        except InputError as error:
            raise ReceiptError("place", error, "a place file") from error
        return raw


def ask(
    server: RemoteServer,
    place: Callable[[bytes | None], PlacedOrder],
    *,
    model_id: bytes,
    sealed: bool,
    policy: EvidencePolicy,
    now: Callable[[], int],
    decode: Callable[..., str],
    keep: Callable[[PlacedOrder], None] = lambda placed: None,
) -> tuple[PlacedOrder, ReceiptFile, CheckedAnswer]:
    """Order, have answered, and check.

    Args:
        place: makes the order, sealed to a key or (None) plain. model_id: of the model ordered.
        decode: token ids -> text, of that model. keep: is given the order before it is sent.

    Raises:
        ReceiptError: the first check that fails. ServiceError: the server refuses.
    """
    seal_to = server.attested_keys(model_id, policy, now()).hpke if sealed else None
    placed = place(seal_to)
    keep(placed)
    file = server.receipt(placed)
    # the order's nonce is fresh: nobody has accepted an answer to it before
    checked = check_answer(file, placed, policy=policy, as_of=now(), nonces=None, decode=decode)
    return placed, file, checked


def _object(raw: bytes) -> Mapping[str, Any]:
    try:
        return json_object(parse_json(raw, what="server's answer"), what="server's answer")
    except InputError as error:
        raise ServiceError(502, "bad_answer", str(error)) from error


def _refused(status: int, raw: bytes, headers: Any) -> ServiceError:
    """What a server says when it refuses, if it says so as ours does."""
    try:
        told = json_object(_object(raw).get("error"), what="error")
        message, code = str(told.get("message"))[:300], str(told.get("code"))[:80]
    except OtrError:
        message, code = "without a reason that can be read", "refused"
    shown = " ".join("".join(c if c.isprintable() else "?" for c in message).split())
    return ServiceError(status, code, f"server: refuses with status {status} ({shown})")
