"""What the commands of a court take: each option once, and the classes of options that go together."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from otr_core.dispute.accounts import MOST_WEI
from otr_core.errors import InputError

_MOST_GWEI = 10**6
_MOST_POLL_S = 3600.0
_place = functools.partial(typer.Option, rich_help_panel="Node, account and court")
_running = functools.partial(typer.Option, rich_help_panel="Running")

Rpc = Annotated[str, _place("--rpc", help="URL of a node's JSON-RPC door.")]
KeyFile = Annotated[Path, _place("--key", help="Encrypted key file of the account that acts.")]
Password = Annotated[Path | None, _place("--password-file", help="Else OTR_PASSWORD, or it is asked for.")]
CourtFile = Annotated[Path, _place("--court", help="What otr chain deploy has written.")]
MaxFee = Annotated[float, _place("--max-fee", help="Most gwei for a unit of gas.")]
Depth = Annotated[int, _place("--confirmations", help="Blocks on a transaction's before it counts.")]
Models = Annotated[list[Path] | None, typer.Option("--model", help="Folder of a checkpoint; repeatable.")]
JudgedLane = Annotated[str, typer.Option("--lane", help="Of each --model: portable or h100-bf16.")]
State = Annotated[
    Path | None, _running("--state", help="File that survives a kill; default: beside the key, one a chain.")
]
Seconds = Annotated[float | None, _running("--seconds", help="Stop after so long; default: never.")]
Heartbeat = Annotated[Path | None, _running("--heartbeat", help="File that is touched after each look at the chain.")]
Poll = Annotated[float, _running("--poll", help="Seconds between two looks at the chain.")]


@dataclass(frozen=True, kw_only=True)
class SenderOptions:
    """Of whoever sends transactions: a node, and the account of a key file.

    Raises:
        InputError: the fee or the confirmations are outside their domain.
    """

    rpc: Rpc
    key: KeyFile
    password_file: Password = None
    max_fee: MaxFee = 500.0
    confirmations: Depth = 0
    state: State = None

    def __post_init__(self) -> None:
        if not 0 < self.max_fee <= _MOST_GWEI:
            raise InputError(f"--max-fee: found {self.max_fee}, expected gwei above 0, at most {_MOST_GWEI}")
        if self.confirmations < 0:
            raise InputError(f"--confirmations: found {self.confirmations}, expected 0 or more blocks")


@dataclass(frozen=True, kw_only=True)
class CourtOptions(SenderOptions):
    """Of whoever acts at a court that stands."""

    court: CourtFile


@dataclass(frozen=True, kw_only=True)
class PartyOptions(CourtOptions):
    """Of a process that plays at a court.

    Raises:
        InputError: as ``SenderOptions``, or a time is outside its domain.
    """

    model: Models = None
    seconds: Seconds = None
    poll: Poll = 2.0
    heartbeat: Heartbeat = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seconds is not None and not self.seconds >= 0:
            raise InputError(f"--seconds: found {self.seconds}, expected 0 or more")
        if not 0 < self.poll <= _MOST_POLL_S:
            raise InputError(f"--poll: found {self.poll}, expected seconds above 0, at most {_MOST_POLL_S:.0f}")


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer takes it: a parameter that is a class of options shows as the options in it."""
    taken, groups = list[inspect.Parameter](), dict[str, tuple[Any, list[str]]]()
    for own in inspect.signature(command, eval_str=True).parameters.values():
        if not is_dataclass(own.annotation):
            taken.append(own.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        hints, inside = get_type_hints(own.annotation, include_extras=True), fields(own.annotation)
        groups[own.name] = own.annotation, [each.name for each in inside]
        for each in inside:
            default = inspect.Parameter.empty if each.default is MISSING else each.default
            about: dict[str, Any] = {"default": default, "annotation": hints[each.name]}
            taken.append(inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, **about))
    taken.sort(key=lambda own: own.default is not inspect.Parameter.empty)  # in the help, what is required first

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {name: kind(**{each: given.pop(each) for each in names}) for name, (kind, names) in groups.items()}
        command(**given, **made)

    called.__annotations__ = {}
    called.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    return called


def wei(ether: str, option: str) -> int:
    """A sum in ether as wei, exact.

    Raises:
        InputError: no sum in digits, one below a wei, or more than 2^96 wei.
    """
    written = re.fullmatch(r"([0-9]{1,11})(?:\.([0-9]{1,18}))?", ether)
    value = int(written[1]) * 10**18 + int((written[2] or "").ljust(18, "0")) if written else MOST_WEI + 1
    if value > MOST_WEI:
        raise InputError(f"{option}: found {ether[:40]!r}, expected ether, such as 0.05")
    return value
