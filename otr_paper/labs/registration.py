"""A key's life at a court: appraised and registered, revoked after the vendor's recovery of a class of
platforms, replaced. Played now, by transactions on the embedded chain, with the tiny model.

The evidence that is accepted is simulated; a recorded H100 report is shown beside it, and refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

from otr_core import merkle
from otr_core.attestation.policy import Policy
from otr_core.dispute.accounts import batch_id
from otr_core.dispute.court import receipt_leaf
from otr_core.dispute.duties import challenge_hash
from otr_core.dispute.profile import DeploymentProfile
from otr_core.dispute.records import SLOT_S
from otr_core.dispute.registry import NOTICE_S, Key
from otr_core.encoding import canonical_json
from otr_core.errors import MoveError, ReceiptError
from otr_core.lane.sampling import Decoding
from otr_core.poea import OnceStore, place_order
from otr_core.poea.attested import pack_evidence
from otr_core.poea.document import ReceiptFile
from otr_core.poea.tee import PINNED_REGISTERS, WORKLOAD_REGISTERS, EvidencePolicy
from otr_core.poea.verify import verify_receipt
from otr_node.chain.answers import OwnModel
from otr_node.chain.anvil import known_keys
from otr_node.chain.evm import Chain
from otr_node.chain.followed import Followed
from otr_node.chain.onchain import ChainCourt
from otr_node.checkpoint import read_checkpoint
from otr_node.enclave import SimulatedEnclave
from otr_node.generate import prompt_tokens
from otr_node.serve import serve
from otr_paper.devnet.ground import PROMPT
from otr_paper.labs.disputes.world import tiny_bench
from otr_paper.store.records import Records, records

NONCE = sha256(b"the registrar's nonce").digest()
CLASS, NEXT_CLASS = (sha256(name).digest() for name in (b"firmware before", b"firmware after"))
"""Classes of platforms: what breaks together."""


@dataclass
class _Scene:
    """A court on a fresh embedded chain, its operator's TEE, and what has happened."""

    court: ChainCourt
    own: OwnModel
    accounts: tuple[str, str, str]
    tee: SimulatedEnclave
    start: int
    told: list[tuple[float, str, str, str, bool]] = field(default_factory=list)
    challenges: int = 0

    def tell(self, who: str, what: str, outcome: str, good: bool) -> None:
        """Note a step; ``good``: it went as it has to."""
        self.told.append((round((self.court.chain.time - self.start) / 60, 1), who, what, outcome, good))

    def answer(self, name: bytes) -> ReceiptFile:
        """A new order, answered by the operator's TEE."""
        ids = prompt_tokens(read_checkpoint(tiny_bench().folder), PROMPT, 8)
        about = {each: sha256(name + each.encode()).digest() for each in ("job_id", "nonce", "client_secret")}
        placed = place_order(
            ids,
            model_id=self.own.id,
            decoding=Decoding(8),
            domain=self.court.domain,
            **about,
        )
        file, _ = serve(self.tee, self.own.model, placed.order, placed.query, served=OnceStore())
        return file

    def commit(self, file: ReceiptFile) -> bytes:
        """Commit an answer as a batch of its own; the batch's id."""
        _, operator, _ = self.accounts
        root = merkle.root([receipt_leaf(self.court.domain, file.receipt, file.signature)])
        self.court.call(None, operator, "commit_batch", root, 1)
        return batch_id(operator, root)

    def challenged(self, file: ReceiptFile, batch: bytes) -> Followed:
        """The court as its logs tell it once a fisherman has challenged an answer and opened that."""
        *_, fisherman = self.accounts
        self.challenges += 1
        salt, bond = sha256(b"salt").digest(), self.court.terms.bond_wei
        self.court.call(None, fisherman, "challenge", challenge_hash(fisherman, batch, 0, 0, salt), value=bond)
        shown: dict[str, Any] = {"order": file.order, "receipt": file.receipt, "signature": file.signature, "path": ()}
        self.court.open(None, fisherman, self.challenges, batch=batch, index=0, token=0, salt=salt, **shown)
        return self.seen()

    def seen(self) -> Followed:
        """The court as its logs tell it now."""
        followed = Followed(self.court, {self.own.id: self.own.registered})
        followed.read()
        return followed


def key_life(profile: DeploymentProfile, report: bytes, certificates: bytes) -> Records:
    """Records of court (first or second), minutes (of the chain's clock), who, what, outcome and good (whether
    that is what the rules say).

    Args:
        profile: of the court. report, certificates: a recorded H100 report (hex text) and its chain (PEM), as NVIDIA
            ships them.
    """
    scene = _founded(profile)
    registrar, operator, _ = scene.accounts
    file = scene.answer(b"first")
    _appraise(scene, file, report, certificates)
    key = Key(operator, scene.own.id, file.keys.address, CLASS)
    scene.court.register_key(file.keys.digest, key)
    scene.tell("registrar", "registers the key with the class of its platform", "registered", True)

    before = scene.commit(file)
    scene.tell("operator", "commits an answer", "committed", True)
    scene.court.chain.travel(scene.court.chain.time + 60)
    scene.court.call(None, registrar, "revoke", CLASS)
    counts = scene.court.chain.time + NOTICE_S
    since = scene.seen().court.window_start(before)
    scene.tell("registrar", "the vendor has recovered the class: revokes it", "counts after a notice", True)
    reopened = abs(since - counts) <= SLOT_S
    scene.tell("court", "what was committed before and is not final", "open for a window more", reopened)
    scene.court.chain.travel(scene.court.chain.time + 60)
    on_its_way = scene.answer(b"second")
    late = scene.commit(on_its_way)
    stands = not scene.challenged(on_its_way, late).court.operators[operator].convicted
    scene.tell("fisherman", "challenges an answer committed within the notice", "a game: it may be right", stands)
    scene.court.chain.travel(scene.court.chain.time + NOTICE_S)
    try:
        scene.court.register_key(sha256(b"again").digest(), key)
        refused = "registered"
    except MoveError as error:
        refused = f"refused by check {error.args[0].split(':')[0]}"
    scene.tell("registrar", "a key of the revoked class", refused, refused != "registered")
    rows = [("first", *row) for row in scene.told] + [("second", *row) for row in _after(profile, key, file)]
    return records("court, minutes, who, what, outcome, good", rows)


def _after(profile: DeploymentProfile, key: Key, file: ReceiptFile) -> list[tuple[float, str, str, str, bool]]:
    """The same up to the notice's end, and then an answer by the revoked key. An operator that is challenged
    commits to nothing, so this is a court of its own."""
    scene = _founded(profile)
    registrar, operator, _ = scene.accounts
    scene.court.register_key(file.keys.digest, key)
    scene.court.call(None, registrar, "revoke", CLASS)
    scene.court.chain.travel(scene.court.chain.time + NOTICE_S + 1)
    fresh = sha256(b"keys of the updated machine").digest()
    scene.court.register_key(fresh, replace(key, address=b"n" * 20, platform=NEXT_CLASS))
    scene.tell("registrar", "a key of the class after the update", "registered", True)
    late = scene.answer(b"third")
    convicted = scene.challenged(late, scene.commit(late)).court.operators[operator].convicted
    scene.tell("fisherman", "opens an answer by the revoked key", "convicted at once", convicted)
    return scene.told


def _founded(profile: DeploymentProfile) -> _Scene:
    keys = known_keys(3)
    registrar, operator, fisherman = (each.address.lower() for each in keys)
    court = ChainCourt(Chain(accounts=6), replace(profile.court, arity_bits=2), registrar)
    own = OwnModel(tiny_bench().portable, tiny_bench().trees)
    court.register_model(own.id, own.trees)
    court.call(None, operator, "register", value=profile.court.least_stake_wei)
    tee = SimulatedEnclave(sha256(b"a machine's secret").digest(), own.id, NONCE, court.chain.time)
    return _Scene(court, own, (registrar, operator, fisherman), tee, court.chain.time)


def _appraise(scene: _Scene, file: ReceiptFile, report: bytes, certificates: bytes) -> None:
    """The registrar appraises what the operator shows: evidence that holds, and recorded evidence that cannot."""
    simulated = EvidencePolicy(allow_simulated=True)
    pinned = tuple((name, "00" * 48) for name in (*PINNED_REGISTERS, WORKLOAD_REGISTERS[0]))
    hardware = EvidencePolicy(
        allow_simulated=True, hardware=replace(Policy.default(), binding="otr", measurements=pinned), nonce=NONCE
    )
    keys = canonical_json(file.keys.to_json())
    recorded = replace(
        file,
        evidence=pack_evidence({"keys": keys, "gpu": [bytes.fromhex(report.decode())], "gpu_certs": [certificates]}),
    )
    other = replace(file, evidence={**file.evidence, "gpu_report": {**file.evidence["gpu_report"], "nonce": "00" * 32}})
    for what, shown, policy, good in (
        ("appraises the operator's simulated evidence", file, simulated, ""),
        ("the same with another nonce written into it", other, simulated, "appraisal"),
        ("NVIDIA's recorded H100 report in its place", recorded, hardware, "appraisal"),
        ("the same, where only simulated evidence is accepted", recorded, simulated, "appraisal"),
    ):
        found = _checked(shown, policy, scene.court.chain.time)
        scene.tell("registrar", what, f"refused, {found}" if found else "accepted", found.partition(":")[0] == good)


def _checked(file: ReceiptFile, policy: EvidencePolicy, as_of: int) -> str:
    """The check that a receipt file fails, and what was found; "": it holds."""
    try:
        verify_receipt(file, policy=policy, as_of=as_of, order_from="file")
    except ReceiptError as error:
        return str(error).partition(", expected")[0]
    return ""
