"""Who stands behind what it signs, by a court as its logs tell it: operators with a stake."""

from __future__ import annotations

from otr_core.dispute.court import Court


def backed_signers(court: Court, least_wei: int, model_id: bytes | None = None) -> frozenset[bytes]:
    """Accounts whose word has something behind it: operators that hold a stake of at least ``least_wei``, have not
    asked for it back and are not convicted.

    Args:
        court: as it was followed. least_wei: above 0. model_id: of these, those alone that have a key registered
            for this model, which was not revoked and whose class of platforms was not; None: any of them.

    Returns:
        their 20-byte addresses.
    """
    serving = {
        key.operator.lower()
        for key_id, key in court.keys.items()
        if key.model_id == model_id and not {key_id, key.platform} & court.revoked.keys()
    }
    return frozenset(
        bytes.fromhex(name.removeprefix("0x"))
        for name, each in court.operators.items()
        if each.stake_wei >= least_wei > 0 and not each.exit_at and not each.convicted
        if model_id is None or name.lower() in serving
    )
