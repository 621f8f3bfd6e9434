"""Every expected failure of the project, as one small tree.

A message says what was found, what was expected, and the way out. Programming mistakes are not in
this tree: they surface as ordinary Python exceptions.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


def one_line(error: Exception, limit: int = 200) -> str:
    """A library's error as one line of at most ``limit`` characters, to be quoted in a message."""
    return " ".join(str(error).split())[:limit]


_MOST_CHARACTERS = 600  # of a message: what was found may be megabytes of somebody else's choice


class OtrError(Exception):
    """Base of all expected failures. ``str(error)`` is one line, fit to be shown to a user."""

    def __init__(self, message: str = "") -> None:
        # What was found may be a text of somebody else's choice, with line ends or what a terminal obeys in it.
        message = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in message)
        super().__init__(message if len(message) <= _MOST_CHARACTERS else message[:_MOST_CHARACTERS] + " …")


@contextlib.contextmanager
def reported_as(
    kind: type[OtrError], found: str, *causes: type[Exception], expected: str = "", limit: int = 200
) -> Iterator[None]:
    """Within this block, exceptions of the classes ``causes`` become errors of ``kind``.

    Their message is "<found> (<the cause>), expected <expected>"; the second half is left out where
    nothing can be said. An error that is of ``kind`` already passes as it is: it says more.

    Args:
        kind: a class whose only argument is its message.
        limit: most characters of the cause that are quoted.
    """
    try:
        yield
    except causes as error:
        if isinstance(error, kind):
            raise
        raise kind(f"{found} ({one_line(error, limit)})" + (f", expected {expected}" if expected else "")) from error


@contextlib.contextmanager
def in_file(path: object) -> Iterator[None]:
    """Within this block, what an expected failure says begins with the name of the file that it is about."""
    try:
        yield
    except OtrError as error:
        if not str(error).startswith(f"{path}: "):
            error.args = (f"{path}: {error}",)
        raise


class InputError(OtrError):
    """A user's input cannot be used: empty prompt, unknown notebook, unreadable file."""


class MissingExtraError(InputError):
    """A command needs packages that the base install does not bring.

    Attributes:
        package: the first one missing, by the name it is imported under.
        extras: the extras of this project that bring what is missing.
    """

    def __init__(self, package: str, extras: tuple[str, ...]) -> None:
        self.package, self.extras = package, extras
        names = ",".join(extras)
        super().__init__(
            f"{package} is not installed, which the extra {names} brings; add it with: pip install 'otr-core[{names}]'"
        )


class ParameterError(InputError):
    """A numeric parameter is outside its domain.

    Attributes:
        field: name of the parameter, with its unit suffix.
        found: the offending value.
        allowed: the domain, in words.
    """

    def __init__(self, field: str, found: object, allowed: str) -> None:
        self.field, self.found, self.allowed = field, found, allowed
        super().__init__(f"{field}: found {found!r}, allowed: {allowed}")


class DataError(OtrError):
    """Outside data is missing, altered or cannot be fetched."""


class MissingDataError(DataError):
    """An outside file is not here; the message names the command that gets it."""


class HashMismatchError(DataError):
    """A file's SHA-256 differs from the pinned one.

    Attributes:
        path: the file.
        expected, found: lower-case hex digests.
    """

    def __init__(self, path: object, expected: str, found: str, mend: str) -> None:
        self.path, self.expected, self.found = path, expected, found
        super().__init__(f"{path}: SHA-256 found {found}, expected {expected}; mend with: {mend}")


class ProofError(OtrError):
    """A Merkle proof does not prove what it claims (RFC 6962 section 2.1)."""


class EvidenceError(InputError):
    """Attestation evidence that cannot be read (evidence that is read and false is *refuted*)."""


class PolicyError(InputError):
    """An appraisal policy is empty, misspelt or contradicts itself."""


class TraceError(InputError):
    """A request trace cannot drive a simulation.

    Attributes:
        rule: stable name of the rule that is broken: columns, number, times, tokens, gap, length, or
            prefix.
        line: line of the file, 1 for the header; 0 where the trace as a whole is meant.
    """

    def __init__(self, rule: str, line: int, found: object, expected: str) -> None:
        self.rule, self.line, self.found, self.expected = rule, line, found, expected
        place = f"line {line}, " if line else ""
        super().__init__(f"trace: {place}{rule}: found {found}, expected {expected}")


class ModelError(InputError):
    """A model cannot be loaded, or is not the model it should be."""


class OperatorError(ModelError):
    """A model needs an operator that the portable lane does not have; a native lane may run it."""


class AccuracyError(ModelError):
    """A model in integers chooses too often otherwise than in floating point; it is not served.

    Attributes:
        found, least: part of the positions at which both choose the same token. positions: compared.
    """

    def __init__(self, found: float, least: float, positions: int) -> None:
        self.found, self.least, self.positions = found, least, positions
        super().__init__(
            f"accuracy: found {100 * found:.1f} % of {positions} choices as in fp32, expected at least "
            f"{100 * least:.1f} %; fixed point serves this model badly, use a native lane"
        )


class RecorderError(OtrError):
    """The process that hashes a trace is gone, stands still or failed; the answer has no trace."""


class JournalError(OtrError):
    """A server's journal cannot be written: what it should hold is not sent to anybody."""


class ServiceError(OtrError):
    """A server refuses a request, as an HTTP answer says it.

    Attributes:
        status: of HTTP. kind, code: of the error, in the words of the OpenAI API. param: the field of
            the request that is meant, if one is. retry_after_s: when to come again; 0: not at all.
    """

    def __init__(
        self, status: int, code: str, message: str, *, kind: str = "", param: str | None = None, retry_after_s: int = 0
    ) -> None:
        self.status, self.code, self.param, self.retry_after_s = status, code, param, retry_after_s
        self.kind = kind or ("invalid_request_error" if status < 500 else "server_error")
        super().__init__(message)


class CheckError(OtrError):
    """A check of some protocol failed; its subclasses say which protocol.

    Attributes:
        check: stable name of the check that failed.
        found, expected: the two values that differ, as the message shows them.
    """

    def __init__(self, check: str, found: object, expected: object) -> None:
        self.check, self.found, self.expected = check, found, expected
        super().__init__(f"{check}: found {found}, expected {expected}")


class ReceiptError(CheckError):
    """A PoEA receipt is rejected by one of ``otr_core.poea.verify.CHECKS``."""


class ClaimsError(OtrError):
    """The claims ledger is malformed or disagrees with what the code computes."""


class SweepError(OtrError):
    """A sweep lost the processes that compute it; what was finished is kept where it has a cache."""


class NotebookError(OtrError):
    """A notebook cannot be run, or did not run to its end."""


class PremiseError(CheckError):
    """A theorem on incentives is asked for where one of its hypotheses fails; the check is its name
    in ``otr_core.economics.premises.HYPOTHESES``."""


class SealError(OtrError):
    """A sealed message does not open."""


class HardwareError(OtrError):
    """The machine cannot give a piece of evidence or a reading; the message says why."""


class ChainError(CheckError):
    """A contract does not compile, or a transaction reverted with the reason ``check``."""


class NodeError(InputError):
    """A node, key or deployment cannot be used: nothing answers, another chain, too little money.

    Attributes:
        check: stable name of what failed: rpc, chain-id, key, password, funds, fee, pending, time,
            trace, contract, model or deployment. found, expected: as the message shows them.
    """

    def __init__(self, check: str, found: object, expected: object) -> None:
        self.check, self.found, self.expected = check, found, expected
        super().__init__(f"{check}: found {found}, expected {expected}")


class MoveError(OtrError):
    """A move in a dispute is not allowed. The state of the game is as before the move.

    Attributes:
        reason: stable name of the rule it breaks, the same in Python and in the contract.
    """

    def __init__(self, reason: str, found: object, expected: object) -> None:
        self.reason, self.found, self.expected = reason, found, expected
        super().__init__(f"{reason}: found {found}, expected {expected}")


class BeaconError(CheckError):
    """A beacon round is refused: wrong scheme, unusable point, or not the beacon's signature."""


class SpotCheckError(CheckError):
    """An answer to a spot check is refused by one of ``otr_core.spotcheck.verify.CHECKS``."""


class AnswerProofError(CheckError):
    """A proof of a whole answer is refused; the check names the relation or message that failed."""


class ProverError(OtrError):
    """The proof system did not do its work: too little memory, interrupted, or an unusable key.

    It says nothing about the operator's honesty.
    """


class InconclusiveError(ProverError):
    """A unit has a value beyond the circuit's range: another is drawn, and nobody is convicted."""
