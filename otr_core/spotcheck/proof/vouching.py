"""Who answers for a commitment to a model: signed statements, and what a verifier without weights asks of them.

Nothing about a commitment shows whose weights lie under its root. A statement names its digest with the model,
lane, court and date, under a key's signature. It proves nothing of the weights; it names who answers for them:
whoever holds them makes the commitment again and sees whether a statement is true, and two statements of one key
that differ contradict each other for anybody. What is signed is typed data (EIP-712), so that a contract recovers
the signer; what it then loses is in ``pledges``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from coincurve import PrivateKey

from otr_core.encoding import canonical_json, parse_canonical, strict_hex
from otr_core.errors import AnswerProofError, InputError, ParameterError, ReceiptError, in_file
from otr_core.files import read_input
from otr_core.poea.order import Document, Domain, Members, struct_hash
from otr_core.poea.receipt import recover_address
from otr_core.spotcheck.proof.committed import ModelCommitment

_FORM = "otr-commitment-statement/1"
_MOST_BYTES = 2**16  # of a file
ADDRESS_BYTES = 20


@dataclass(frozen=True)
class CommitmentStatement(Document):
    """That a commitment is of the model with this id.

    Attributes:
        domain: chain and court under which the signer answers for it. model_id: of the manifest.
        commitment: ``ModelCommitment.digest``. lane: of the manifest. date: when it was signed, Unix seconds.
    """

    what = "commitment statement"
    ceilings: ClassVar[Mapping[str, int]] = {"date": 2**40}
    members: ClassVar[Members] = (
        ("modelId", "bytes32", "model_id"),
        ("commitment", "bytes32", "commitment"),
        ("lane", "string", "lane"),
        ("date", "uint64", "date"),
    )
    domain: Domain
    model_id: bytes
    commitment: bytes
    lane: str
    date: int

    @property
    def about(self) -> tuple[Domain, bytes, str]:
        """What one key can say one thing of: court, model and lane."""
        return self.domain, self.model_id, self.lane

    @property
    def signing_hash(self) -> bytes:
        """EIP-712 hash under the domain: what is signed, 32 bytes."""
        return self.domain.hash(struct_hash("ModelCommitment", self))


@dataclass(frozen=True)
class SignedStatement:
    """A statement and its signature r ‖ s ‖ v, 65 bytes."""

    statement: CommitmentStatement
    signature: bytes

    @classmethod
    def by(cls, key: bytes, statement: CommitmentStatement) -> SignedStatement:
        """Sign it with a 32-byte secret scalar. Deterministic (RFC 6979)."""
        raw = PrivateKey(key).sign_recoverable(statement.signing_hash, hasher=None)
        return cls(statement, raw[:64] + bytes([27 + raw[64]]))

    @cached_property
    def signer(self) -> bytes:
        """20-byte address of the key.

        Raises:
            ReceiptError: check "signature": no key's.
        """
        return recover_address(self.statement.signing_hash, self.signature)

    def dump(self) -> bytes:
        """The file: canonical JSON and a line end."""
        own = {"statement": self.statement.to_json(), "signature": self.signature.hex()}
        return canonical_json({"format": _FORM, **own}) + b"\n"

    @classmethod
    def load(cls, raw: bytes) -> SignedStatement:
        """Read ``dump``'s file.

        Raises:
            InputError: it is another file.
        """
        what = "commitment statement"
        own = parse_canonical(raw, _FORM, ("format", "statement", "signature"), what=what)
        signature = strict_hex(own["signature"], length=65, what=f"{what} signature")
        return cls(CommitmentStatement.from_json(own["statement"]), signature)

    @classmethod
    def read(cls, path: Path) -> SignedStatement:
        """A statement from its file.

        Raises:
            InputError: as ``load``.
        """
        with in_file(path):
            return cls.load(read_input(path, what="a signed statement of a commitment (JSON)", limit_bytes=_MOST_BYTES))


@dataclass(frozen=True)
class VouchPolicy:
    """Whose word a verifier takes.

    Attributes:
        keys: addresses, 20 bytes each, whose statements count: of an operator with a stake, or of holders of
            the weights. least: so many different ones of them must have signed.
        left_out: addresses whose word is taken no more, whatever they sign: of a key that has contradicted
            itself, or of an operator whom a court has convicted. ``least`` stays what it was.

    Raises:
        ParameterError: no key, one twice or of another length, or a number that the keys cannot reach or that
            asks for none.
    """

    keys: tuple[bytes, ...]
    least: int
    left_out: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if len(set(self.keys)) < len(self.keys) or {*map(len, self.keys)} != {ADDRESS_BYTES}:
            raise ParameterError("keys", [key.hex() for key in self.keys], "one or more different addresses")
        if type(self.least) is not int or not 1 <= self.least <= len(self.keys):
            raise ParameterError("least", self.least, f"1 to {len(self.keys)}, as many as there are keys")

    def check(
        self, committed: ModelCommitment, lane: str, domain: Domain, given: Sequence[SignedStatement], as_of: int
    ) -> tuple[bytes, ...]:
        """Who of the keys has signed for a commitment. Statements of other keys count for nothing and against
        nothing, and so do those of keys that are left out; one of the others that says anything else refuses.

        0. ``vouched commitment``: it is not one that hides the model.
        1. ``vouched contradiction``: no key has signed two commitments to one model of one court.
        2. ``vouched model``, ``vouched lane``, ``vouched domain``, ``vouched commitment``: each is about this one.
        3. ``vouched date``: none is from later on.
        4. ``vouched keys``: enough of them have signed.

        Args:
            lane: of the model. domain: of the order that is answered. as_of: now, Unix seconds.

        Raises:
            AnswerProofError: the first that fails. ReceiptError: check "signature": no key's.
        """
        if committed.answers:
            wanted = "one that everybody with the weights makes again"
            raise AnswerProofError("vouched commitment", "one that hides the model", wanted)
        own = [each for each in given if each.signer in self.keys and each.signer not in self.left_out]
        said: dict[Any, SignedStatement] = {}
        for each in own:
            first = said.setdefault((each.signer, each.statement.about), each)
            if first.statement.commitment != each.statement.commitment:
                both = f"{first.statement.commitment.hex()} and {each.statement.commitment.hex()}"
                raise AnswerProofError("vouched contradiction", f"{both} by {each.signer.hex()}", "one commitment")
        for each in own:
            told = each.statement
            for name, found, expected in (
                ("model", told.model_id.hex(), committed.model_id.hex()),
                ("lane", told.lane, lane),
                ("domain", told.domain.to_json(), domain.to_json()),
                ("commitment", told.commitment.hex(), committed.digest.hex()),
            ):
                if found != expected:
                    raise AnswerProofError(f"vouched {name}", f"{found} by {each.signer.hex()}", expected)
            if told.date > as_of:
                raise AnswerProofError("vouched date", f"{told.date} by {each.signer.hex()}", f"at most {as_of}")
        signers = tuple(sorted({each.signer for each in own}))
        if len(signers) < self.least:
            out = len(self.left_out.intersection(self.keys))
            found = f"{len(signers)} of {len(self.keys)} keys" + f" ({out} left out)" * bool(out)
            found += f": {signers[0].hex()}…" if signers else ""
            raise AnswerProofError("vouched keys", found, f"at least {self.least}")
        return signers


def check_contradiction(first: SignedStatement, second: SignedStatement) -> bytes:
    """Whether one key has signed two commitments to one model: evidence that one of them is false, for anybody
    who can recover a signer. Which one it is, whoever holds the weights says.

    Returns:
        the signer's address.

    Raises:
        ReceiptError: check "signature": two keys, or no key's. "statement": about two models, lanes or courts, or
            the same commitment twice.
    """
    if first.signer != second.signer:
        raise ReceiptError("signature", second.signer.hex(), first.signer.hex())
    if first.statement.about != second.statement.about:
        raise ReceiptError("statement", second.statement.to_json(), "the same model, lane, chain and court")
    if first.statement.commitment == second.statement.commitment:
        raise ReceiptError("statement", "the same commitment twice", "two that differ")
    return first.signer


def read_contradiction(path: Path) -> tuple[SignedStatement, SignedStatement]:
    """Two statements of one key that contradict each other, from a file of evidence: the files of both, one behind
    the other. They are checked as ``check_contradiction`` does, whoever hands them on.

    Raises:
        InputError: it is another file. ReceiptError: the two do not contradict each other.
    """
    with in_file(path):
        raw = read_input(path, what="two signed statements, one behind the other", limit_bytes=2 * _MOST_BYTES)
        lines = raw.splitlines(keepends=True)
        if len(lines) != 2:
            raise InputError(f"evidence: found {len(lines)} lines, expected two signed statements")
        first, second = map(SignedStatement.load, lines)
        check_contradiction(first, second)
        return first, second
