"""Appraisal policies: plain data, read from TOML or JSON.

A policy lists the checks that it requires. A required check must be *asserted*; a check that is not
required may stay unknown; a *refuted* claim is never accepted, whether its check is required or
not. Two policies come with the package, in ``policies/default.toml`` and ``policies/strict.toml``:
the files are their only definition, and a template for policies of one's own.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import resources
from typing import Any

from otr_core.attestation.bundle import Bundle
from otr_core.attestation.chain import TrustRoots, VerifiedCache
from otr_core.attestation.claims import CHECKS, ClaimLog, Source
from otr_core.encoding import canonical_json, parse_json
from otr_core.errors import InputError, PolicyError, reported_as

#: The folder of the policies that come with the package.
SHIPPED = resources.files("otr_core.attestation") / "policies"
EVIDENCE_KINDS = ("gpu", "switch", "cpu", "event_log")
BINDING_PROFILES = ("auto", "near", "near_tls", "secretvm", "chutes", "otr")
TCB_STATUSES = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
MEASUREMENTS = (
    *("mr_td", "mr_seam", "mr_config_id", "mr_owner", "mr_owner_config", "rt_mr0", "rt_mr1", "rt_mr2", "rt_mr3"),
    *("td_attributes", "mr_enclave", "mr_signer", "compose_hash"),
)
#: Checks that compare with a value of the policy's author, and the fields that may state it.
_NEED_VALUES = {
    **{"gpu.count": ("gpu_count",), "gpu.driver": ("gpu_drivers",), "gpu.vbios": ("gpu_vbios",)},
    **{"gpu.mode": ("gpu_protected_pcie",), "gpu.platform": ("gpu_ids", "gpu_max_nodes")},
    **{"cpu.measurements": ("measurements",), "cpu.platform": ("cpu_ids", "cpu_max_nodes")},
}
#: Fields that are 1 or more, where they are set.
_AT_LEAST_ONE = (
    *("gpu_count", "gpu_max_nodes", "cpu_max_nodes"),
    *("min_tcb_evaluation", "collateral_max_age_s", "ocsp_max_staleness_s"),
)


@dataclass(frozen=True)
class Policy:
    """What must hold for evidence to be accepted. ``None`` always means "any".

    Attributes:
        name: shown with every verdict.
        require: checks (``claims.CHECKS``) that must be asserted wherever they apply; at least one.
        evidence: kinds of evidence that must be there (``EVIDENCE_KINDS``).
        allow_simulated: whether a simulated TEE may pass; production says no.
        gpu_drivers, gpu_vbios: allowed versions.
        gpu_count: exact number of GPUs.
        gpu_protected_pcie: required state of protected PCIe.
        gpu_ids: admitted devices (decimal leaf serial number, NVIDIA's ueid).
        gpu_max_nodes, cpu_max_nodes: how many registered nodes may share one GPU or one CPU
            platform.
        cpu_ids: admitted platforms (hex PPID).
        tcb_statuses: allowed TCB statuses.
        advisories: security advisories that may be open.
        min_tcb_evaluation: lowest tcbEvaluationDataNumber of the collateral.
        collateral_max_age_s: oldest collateral, in seconds since its issue.
        measurements: expected register values, (name, lower-case hex) pairs.
        binding: profile that ties GPU to CPU evidence; ``auto`` takes what all profiles share.
        ocsp_max_staleness_s: oldest stapled OCSP response, in seconds since thisUpdate.
    """

    name: str = ""
    require: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    allow_simulated: bool = False
    gpu_drivers: tuple[str, ...] | None = None
    gpu_vbios: tuple[str, ...] | None = None
    gpu_count: int | None = None
    gpu_protected_pcie: bool | None = None
    gpu_ids: tuple[str, ...] | None = None
    gpu_max_nodes: int | None = None
    cpu_ids: tuple[str, ...] | None = None
    cpu_max_nodes: int | None = None
    tcb_statuses: tuple[str, ...] = ("UpToDate",)
    advisories: tuple[str, ...] = ()
    min_tcb_evaluation: int | None = None
    collateral_max_age_s: int | None = None
    measurements: tuple[tuple[str, str], ...] = ()
    binding: str = "auto"
    ocsp_max_staleness_s: int = 90 * 86_400

    def __post_init__(self) -> None:
        if not self.require:
            raise PolicyError("policy: found no required check, expected at least one in 'require'")
        if not self.name:
            raise PolicyError("policy: found no name, expected 'name'")
        _known("require", self.require, tuple(CHECKS))
        _known("evidence", self.evidence, EVIDENCE_KINDS)
        _known("tcb_statuses", self.tcb_statuses, TCB_STATUSES)
        _known("binding", (self.binding,), BINDING_PROFILES)
        _known("measurements", tuple(name for name, _ in self.measurements), MEASUREMENTS)
        for name, value in self.measurements:
            if not value or set(value) - set("0123456789abcdef"):
                raise PolicyError(f"policy measurements: {name} found {value[:20]!r}, expected lower-case hex")
        for check, values in _NEED_VALUES.items():
            if check in self.require and not any(getattr(self, field) not in (None, ()) for field in values):
                raise PolicyError(f"policy {check}: required, but the policy states no value in {' or '.join(values)}")
        for field in ("gpu_drivers", "gpu_vbios", "gpu_ids", "cpu_ids"):
            if getattr(self, field) == ():
                raise PolicyError(f"policy {field}: found an empty list, which admits nothing; leave it out for any")
        for field in _AT_LEAST_ONE:
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise PolicyError(f"policy {field}: found {getattr(self, field)}, expected at least 1")

    @classmethod
    def default(cls) -> Policy:
        """Authentic, unmodified, up to date, bound together; for evidence of any age."""
        return _shipped("default")

    @classmethod
    def strict(cls) -> Policy:
        """For admitting a live node: every check that needs no value of the author's own."""
        return _shipped("strict")

    @classmethod
    def from_bytes(cls, data: bytes) -> Policy:
        """A policy from TOML or JSON, told apart by content.

        Its keys are the fields of this class; ``measurements`` is a table.

        Raises:
            PolicyError: unreadable, empty, or with an unknown or ill-typed key.
        """
        causes = (UnicodeError, tomllib.TOMLDecodeError, InputError, RecursionError)
        with reported_as(PolicyError, "policy: not readable as TOML or JSON", *causes):
            text = data.decode("utf-8")
            is_json = text.lstrip().startswith("{")
            values = parse_json(text, what="policy") if is_json else tomllib.loads(text)
            kinds = {field.name: str(field.type) for field in dataclasses.fields(cls)}
            _known("key", tuple(values), tuple(kinds))
            policy = cls(**{key: _typed(key, value, kinds[key]) for key, value in values.items()})
            policy.to_bytes()  # numbers and texts that canonical JSON cannot carry fail here
            return policy

    def to_bytes(self) -> bytes:
        """Canonical JSON of the fields that are set: the same policy always has the same bytes.

        ``from_bytes`` takes it back.
        """
        values = {key: value for key, value in vars(self).items() if value is not None}
        values["measurements"] = dict(self.measurements)
        lists = {key: list(value) for key, value in values.items() if isinstance(value, tuple)}
        return canonical_json(values | lists)


@dataclass(frozen=True)
class Inquiry:
    """What an appraisal answers: whether this evidence passes this policy, as of a moment.

    Attributes:
        as_of: in UTC; every validity, age and revocation is judged at this time.
        nonce, key: what the verifier knows of the request and of the serving key; None for nothing.
        registered: number of nodes already admitted, by platform id; None without a registry.
        roots: the certificates that chains must end in.
    """

    bundle: Bundle
    policy: Policy
    as_of: datetime
    nonce: bytes | None
    key: bytes | None
    registered: Mapping[str, int] | None
    cache: VerifiedCache
    roots: TrustRoots


def admit(
    log: ClaimLog,
    identity: str,
    admitted: Sequence[str] | None,
    max_nodes: int | None,
    registered: Mapping[str, int] | None,
) -> None:
    """Claim whether one platform is admitted; no claim if the policy says nothing about that.

    Args:
        identity: the platform's id; empty if the evidence names none.
        admitted: ids that the policy admits; None for any.
        max_nodes: how many registered nodes one platform may carry; None for any number.
        registered: number of nodes already registered, by platform id.
    """
    check = "platform"
    if admitted is None and max_nodes is None:
        return
    if not identity:
        log.unknown([check], "the evidence names no platform")
    elif admitted is not None and identity not in admitted:
        log.judge(check, f"platform {identity} is not on the list of admitted ones", "", Source.HARDWARE)
    elif max_nodes is not None and registered is None:
        log.unknown([check], "no registry was given to count nodes on this platform")
    elif max_nodes is not None and registered is not None and registered.get(identity, 0) >= max_nodes:
        found = registered[identity]
        log.judge(check, f"platform {identity} already carries {found} nodes, allowed {max_nodes}", "", Source.OPERATOR)
    else:
        log.judge(check, None, f"platform {identity} is admitted", Source.HARDWARE)


@functools.cache
def _shipped(name: str) -> Policy:
    return Policy.from_bytes((SHIPPED / f"{name}.toml").read_bytes())


def _known(what: str, found: tuple[str, ...], known: tuple[str, ...]) -> None:
    for word in found:
        if word not in known:
            near = difflib.get_close_matches(str(word), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
            raise PolicyError(f"policy {what}: found {word!r}, {hint}")
    if len(set(found)) != len(found):
        raise PolicyError(f"policy {what}: found an entry twice, expected each once")


def _typed(key: str, value: Any, kind: str) -> Any:
    if key == "measurements":
        if isinstance(value, Mapping) and all(isinstance(hex_value, str) for hex_value in value.values()):
            return tuple(sorted((name, hex_value.lower()) for name, hex_value in value.items()))
        raise PolicyError("policy measurements: expected a table of register name to hex string")
    wanted: type = tuple if kind.startswith("tuple") else {"str": str, "bool": bool, "int": int}[kind.split(" ")[0]]
    if wanted is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if type(value) is wanted:  # a bool is no int here
        return value
    raise PolicyError(f"policy {key}: found {type(value).__name__} {str(value)[:40]!r}, expected {kind}")
