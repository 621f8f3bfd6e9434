"""From what a user names to what acts: a node with an account, a court, models, a party."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otr_core.cli import say
from otr_core.errors import InputError, ModelError, NodeError
from otr_core.extras import need_extras
from otr_core.files import read_input
from otr_node.chain.deployment import load_deployment
from otr_node.chain.options import CourtOptions, PartyOptions, SenderOptions, wei
from otr_node.chain.outbox import Outbox

if TYPE_CHECKING:
    from otr_node.chain.answers import OwnModel
    from otr_node.chain.fisherman import Fisherman
    from otr_node.chain.followed import Followed
    from otr_node.chain.interface import AnyChain
    from otr_node.chain.onchain import ChainCourt, Spent
    from otr_node.chain.party import ChainParty
    from otr_node.chain.pledges import ChainPledges
    from otr_node.chain.rpc import RpcChain


def connect(options: SenderOptions) -> RpcChain:
    """A node, with the account of a key file.

    Raises:
        NodeError: as ``RpcChain`` and ``load_key``. InputError: another process uses the state.
    """
    need_extras("chain")
    from otr_node.chain.delivery import GWEI
    from otr_node.chain.keys import load_key, read_password
    from otr_node.chain.rpc import RpcChain

    chain_id = RpcChain(options.rpc).id  # a wrong URL is said before a password is asked for
    key = options.key
    account = load_key(key, read_password(options.password_file))
    # What was signed for one chain is of no use on another, and would be waited for there.
    box = Outbox(options.state or key.with_name(f"{key.name}.{chain_id}.state"))
    about: dict[str, Any] = {"max_fee_wei": int(options.max_fee * GWEI), "confirmations": options.confirmations}
    chain = RpcChain(options.rpc, [account], outbox=box, **about)
    if chain.elsewhere:
        say(f"{box.path}: {chain.elsewhere} signed for another chain of this number are left aside")
    return chain


def attached(chain: RpcChain, court: Path) -> ChainCourt:
    """The court of a deployment's file.

    Raises:
        NodeError: ``chain-id``: it stands on another chain. ``contract``: other code stands there.
    """
    from otr_node.chain.onchain import ChainCourt

    stands = load_deployment(read_input(court, what="a deployment (JSON)"))
    if stands.chain_id != chain.id:
        raise NodeError("chain-id", f"{chain.id} behind --rpc", f"{stands.chain_id}, the court's")
    return ChainCourt(chain, stands.terms, stands.registrar, stands.arbiter, stands)


def followed_at(rpc: str, court: Path) -> Followed:
    """A court as its logs tell it by now, without an account.

    Raises:
        NodeError: as ``RpcChain``, ``attached`` and ``Followed.read``.
    """
    need_extras("chain")
    from otr_node.chain.followed import Followed
    from otr_node.chain.rpc import RpcChain

    followed = Followed(attached(RpcChain(rpc), court), {})
    followed.read()
    return followed


def pledges_at(chain: AnyChain, path: Path) -> ChainPledges:
    """The pledges of a file that ``otr pledge deploy`` has written.

    Raises:
        NodeError: as ``PledgesAt.read`` and ``ChainPledges``.
    """
    from otr_node.chain.pledges import ChainPledges, PledgesAt

    return ChainPledges(chain, PledgesAt.read(path))


def pledges_behind(rpc: str, path: Path) -> ChainPledges:
    """The same on a node, without an account.

    Raises:
        NodeError: as ``RpcChain`` and ``pledges_at``.
    """
    need_extras("chain")
    from otr_node.chain.rpc import RpcChain

    return pledges_at(RpcChain(rpc), path)


def entered(options: CourtOptions) -> tuple[ChainCourt, str]:
    """The court that the options name, and the address that acts there, lower-case.

    Raises:
        NodeError: as ``connect`` and ``attached``.
    """
    chain = connect(options)
    return attached(chain, options.court), chain.accounts[0].lower()


def with_models(options: PartyOptions) -> tuple[ChainCourt, dict[bytes, OwnModel], RpcChain]:
    """A court, the models at hand whose judges stand there, by id, and the chain.

    Raises:
        NodeError: as ``connect`` and ``attached``; ``model``: none of them does.
    """
    chain = connect(options)
    at = attached(chain, options.court)
    judges = load_deployment(read_input(options.court, what="a deployment (JSON)")).judges
    owned = {own.id: own for own in load_models(options.model or [], registered=judges)}
    if not owned:
        raise NodeError("model", f"none of {sorted(judges)}", "--model with a registered one")
    for own in owned.values():
        at.attach_judge(own.id, judges[own.id.hex()], own.trees)
    return at, owned, chain


def load_models(folders: list[Path], lane: str | None = None, *, registered: Container[str] = ()) -> list[OwnModel]:
    """Models with the trees that their disputes are judged by.

    Args:
        lane: "portable" or "h100-bf16"; None: each folder in every lane in which it is ``registered``.
        registered: ids of models, hex.

    Raises:
        InputError: another lane, of which no judge exists. ModelError: not a usable checkpoint.
    """
    need_extras("node", "chain")
    from otr_node.answers import LANES
    from otr_node.chain.answers import OwnModel
    from otr_node.commitment import commit_model
    from otr_node.lanes import load_model
    from otr_node.portable import PortableModel
    from otr_node.tensor_lane import TensorModel

    judged = [name for name in LANES if name != "native"]
    if lane is not None and lane not in judged:
        raise InputError(f"--lane: found {lane[:40]!r}, expected {' or '.join(judged)}: no judge of another one exists")
    found = []
    for folder in folders:
        refused, fits = None, False
        for name in judged if lane is None else [lane]:
            try:
                model = load_model(folder, lane=LANES[name])
            except ModelError as error:  # a decoder that one lane has no operators for may run in the other
                refused = refused or error
                continue
            assert isinstance(model, PortableModel | TensorModel)
            fits = True
            if lane is not None or model.manifest.model_id.hex() in registered:
                found.append(OwnModel(model, commit_model(model)))
        if refused is not None and not fits:
            raise refused
    return found


def answer_folder(path: Path) -> Path:
    """A folder of answers, as the user has named it.

    Raises:
        InputError: it is none.
    """
    if not path.is_dir():
        raise InputError(f"{path}: found no folder, expected one with answers (docs/network.md)")
    return path


def fisherman_of(folder: Path, options: PartyOptions, budget: str) -> Fisherman:
    """A fisherman by the commands' options.

    Raises:
        InputError: the folder is none, or the budget no sum. NodeError: as ``with_models``.
    """
    need_extras("node", "chain")
    from otr_node.chain.fisherman import Fisherman

    folder, most = answer_folder(folder), wei(budget, "--budget")
    at, owned, chain = with_models(options)
    assert chain.outbox is not None
    secret = hmac.digest(chain.secret, b"otr/1/fisherman", "sha256")
    me = chain.accounts[0].lower()
    return Fisherman(at, me, owned, folder, reporter("fisherman"), secret, most, chain.outbox)


def go(party: ChainParty, until: Callable[[bool], bool], options: PartyOptions) -> None:
    """Let a party act until it is told to stop."""
    from otr_node.chain.party import run_party

    party.report("started", court=party.chain.court.address, account=party.me)
    run_party(party, until=until, poll_s=options.poll, heartbeat=options.heartbeat)
    party.report("stopped")


def until_late(seconds: float | None) -> Callable[[bool], bool]:
    """Whether a party has had its time."""
    end = None if seconds is None else time.monotonic() + seconds
    return lambda acted: end is not None and time.monotonic() >= end


def reporter(who: str) -> Callable[..., None]:
    """Prints events as JSON lines."""

    def report(event: str, **about: Any) -> None:
        print(json.dumps({"at": round(time.time(), 3), "who": who, "event": event, **about}), flush=True)

    return report


def print_gas(ledger: Sequence[Spent]) -> None:
    """What each transaction has cost."""
    for spent in ledger:
        say(f"  {spent.call}: {spent.gas:,} gas")
