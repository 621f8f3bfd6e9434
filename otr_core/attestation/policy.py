"""Appraisal policies: plain data, read from TOML or JSON.

A policy says which evidence it expects and which checks it requires. A required check must be
*asserted*: one that is unknown, or that was not made because there is nothing to make it on, stands
against acceptance as much as a refuted one. So does a refuted claim about expected evidence, even
if its check is not required. What a policy does not expect is shown and decides nothing, so that
leaving it out cannot help. A *waiver* lets one check fail, for a stated reason and until a stated
day; it stays visible in every verdict that rests on it. Two policies come with the package, in
``policies/default.toml`` and ``policies/strict.toml``: the files are their only definition, and a
template for policies of one's own.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib import resources
from typing import Any

from otr_core.attestation.bundle import Bundle
from otr_core.attestation.chain import TrustRoots, VerifiedCache
from otr_core.attestation.claims import CHECKS, Claim, ClaimLog, Source, Status
from otr_core.attestation.ocsp import REVOKED
from otr_core.encoding import canonical_json, parse_json
from otr_core.errors import InputError, PolicyError, reported_as

#: The folder of the policies that come with the package.
SHIPPED = resources.files("otr_core.attestation") / "policies"
CPU_KINDS = ("tdx", "sgx", "snp")
#: ``cpu`` stands for a quote or report of whatever CPU TEE, the three after it for one of that kind.
EVIDENCE_KINDS = ("gpu", "switch", "cpu", *CPU_KINDS, "event_log", "compose")
MODES = ("single", "multi", "protected pcie")
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
    *("measurement", "host_data", "id_key_digest", "author_key_digest", "family_id", "image_id", "vmpl"),
)
#: Components of AMD's TCB version, each a number that only grows.
SNP_COMPONENTS = ("fmc", "bootloader", "tee", "snp", "microcode")
#: Checks that compare with a value of the policy's author, and the fields that may state it.
_NEED_VALUES = {
    **{"gpu.count": ("gpu_count",), "gpu.driver": ("gpu_drivers",), "gpu.vbios": ("gpu_vbios",)},
    **{"gpu.mode": ("gpu_protected_pcie", "gpu_modes"), "gpu.platform": ("gpu_ids", "gpu_max_nodes")},
    **{"gpu.switch_count": ("switch_count",), "gpu.architecture": ("gpu_architectures",)},
    **{"gpu.board": ("gpu_boards",), "cpu.tcb_date": ("min_tcb_date",)},
    **{"cpu.measurements": ("measurements",), "cpu.platform": ("cpu_ids", "cpu_max_nodes")},
}
#: What checks rest on that evidence may lack: parts of ``EVIDENCE_KINDS``, or what others signed.
_OPTIONAL = {
    **dict.fromkeys(("cpu.event_log", *(f"cpu.rtmr{number}" for number in range(4)), "cpu.boundary"), "event_log"),
    **{"cpu.compose": "compose"},
    **{name: "" for name in CHECKS if ".rim." in name or ".measurements." in name or name.endswith("revocation")},
}
#: Checks without which evidence is only somebody's word, so that nothing can stand in for them.
_NEVER_WAIVED = (
    *("evidence.present", "evidence.genuine", "gpu.signature", "gpu.chain.links", "gpu.chain.root", "cpu.quote"),
)
#: Checks that an NVSwitch has no answer for: it runs no driver, and its reports carry no firmware id.
OF_GPUS = {"gpu.fwid", "gpu.topology", "gpu.one_mode", *(name for name in CHECKS if ".driver" in name)}
#: Checks that a CPU TEE has no answer for: TDX alone has run-time registers, AMD signs no
#: advisories, no collateral and no dates.
_RUN_TIME = {name for name in CHECKS if _OPTIONAL.get(name) == "event_log"}
WITHOUT = {
    "tdx": set[str](),
    "sgx": _RUN_TIME | {"cpu.compose"},
    "snp": _RUN_TIME | {"cpu.advisories", "cpu.collateral", "cpu.tcb_date"},
}
#: Fields that are 1 or more, where they are set, and at most what dates can be moved by.
_MOST = 10**10
_AT_LEAST_ONE = (
    *("gpu_count", "switch_count", "gpu_max_nodes", "cpu_max_nodes"),
    *("min_tcb_evaluation", "collateral_max_age_s", "ocsp_max_staleness_s"),
)


@dataclass(frozen=True)
class Waiver:
    """Lets one check be refuted or unknown.

    Attributes:
        check: key of ``CHECKS``; not one of those without which nothing is vouched for.
        until: last day (UTC) on which it helps, ISO 8601.
        why: for whoever reads the verdict.
        found: text that the claim's reason must hold, so that the waiver covers that failure alone;
            empty for any.
    """

    check: str
    until: str
    why: str
    found: str = ""

    def __post_init__(self) -> None:
        _known("waiver", (self.check,), tuple(CHECKS))
        if self.check in _NEVER_WAIVED:
            raise PolicyError(f"policy waiver: {self.check} cannot be waived: without it nobody vouches for the rest")
        iso_day(self.until, "policy waiver until")
        if not self.why.strip():
            raise PolicyError(f"policy waiver: found no reason for {self.check}, expected one in 'why'")

    def covers(self, claim: Claim, as_of: datetime) -> bool:
        """Whether it lets ``claim`` fail at ``as_of`` (UTC)."""
        failed = claim.status in (Status.REFUTED, Status.UNKNOWN)
        known = claim.check == self.check and self.found in claim.reason
        return failed and known and as_of.date() <= iso_day(self.until, "until")


def iso_day(text: str, what: str) -> date:
    """The day in ``YYYY-MM-DD``.

    Raises:
        PolicyError: it is none.
    """
    with reported_as(PolicyError, f"{what}: found {text[:20]!r}", ValueError, expected="a day as YYYY-MM-DD"):
        return date.fromisoformat(text)


@dataclass(frozen=True)
class Policy:
    """What must hold for evidence to be accepted. ``None`` always means "any".

    Attributes:
        name: shown with every verdict.
        require: checks (``claims.CHECKS``) that must be asserted; at least one.
        evidence: kinds of evidence that must be there (``EVIDENCE_KINDS``); the families of
            required checks count as expected too.
        allow_simulated: whether a simulated TEE may pass; production says no.
        gpu_drivers, gpu_vbios: allowed versions.
        gpu_count, switch_count: exact number of GPUs and of NVSwitches.
        gpu_architectures, gpu_boards: allowed chips (``GH100``) and boards (``G520 0200 885``).
        gpu_protected_pcie: required state of protected PCIe. gpu_modes: allowed ``MODES``.
        gpu_ids: admitted devices (decimal leaf serial number, NVIDIA's ueid).
        gpu_max_nodes, cpu_max_nodes: how many registered nodes may share one GPU or one CPU
            platform.
        cpu_ids: admitted platforms (hex PPID).
        tcb_statuses: allowed TCB statuses. min_tcb_date: earliest day of the platform's TCB.
        snp_min_tcb: lowest TCB of AMD platforms, (component, number) pairs (``SNP_COMPONENTS``).
        advisories: security advisories that may be open.
        min_tcb_evaluation: lowest tcbEvaluationDataNumber of the collateral.
        collateral_max_age_s: oldest collateral, in seconds since its issue.
        measurements: expected register values, (name, lower-case hex) pairs.
        binding: profile that ties GPU to CPU evidence; ``auto`` takes what all profiles share.
        ocsp_max_staleness_s: oldest stapled OCSP response, in seconds since thisUpdate.
        ocsp_grace_s: how long a response still counts after its nextUpdate, in seconds.
        waivers: checks that may fail, for a reason and until a day.
    """

    name: str = ""
    require: tuple[str, ...] = ()
    evidence: tuple[str, ...] = ()
    allow_simulated: bool = False
    gpu_drivers: tuple[str, ...] | None = None
    gpu_vbios: tuple[str, ...] | None = None
    gpu_count: int | None = None
    switch_count: int | None = None
    gpu_architectures: tuple[str, ...] | None = None
    gpu_boards: tuple[str, ...] | None = None
    gpu_protected_pcie: bool | None = None
    gpu_modes: tuple[str, ...] | None = None
    gpu_ids: tuple[str, ...] | None = None
    gpu_max_nodes: int | None = None
    cpu_ids: tuple[str, ...] | None = None
    cpu_max_nodes: int | None = None
    tcb_statuses: tuple[str, ...] = ("UpToDate",)
    min_tcb_date: str | None = None
    snp_min_tcb: tuple[tuple[str, int], ...] = ()
    advisories: tuple[str, ...] = ()
    min_tcb_evaluation: int | None = None
    collateral_max_age_s: int | None = None
    measurements: tuple[tuple[str, str], ...] = ()
    binding: str = "auto"
    ocsp_max_staleness_s: int = 90 * 86_400
    ocsp_grace_s: int = 0
    waivers: tuple[Waiver, ...] = ()

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
        _known("snp_min_tcb", tuple(name for name, _ in self.snp_min_tcb), SNP_COMPONENTS)
        _known("gpu_modes", self.gpu_modes or (), MODES)
        if self.min_tcb_date is not None:
            iso_day(self.min_tcb_date, "policy min_tcb_date")
        for name, value in self.measurements:
            if not value or set(value) - set("0123456789abcdef"):
                raise PolicyError(f"policy measurements: {name} found {value[:20]!r}, expected lower-case hex")
        if self.ocsp_grace_s < 0:
            raise PolicyError(f"policy ocsp_grace_s: found {self.ocsp_grace_s}, expected 0 or more")
        for check, values in _NEED_VALUES.items():
            if check in self.require and not any(getattr(self, field) not in (None, ()) for field in values):
                raise PolicyError(f"policy {check}: required, but the policy states no value in {' or '.join(values)}")
        for field in ("gpu_drivers", "gpu_vbios", "gpu_ids", "cpu_ids", "gpu_modes", "gpu_architectures", "gpu_boards"):
            if getattr(self, field) == ():
                raise PolicyError(f"policy {field}: found an empty list, which admits nothing; leave it out for any")
        for field in _AT_LEAST_ONE:
            if getattr(self, field) is not None and not 1 <= getattr(self, field) <= _MOST:
                raise PolicyError(f"policy {field}: found {getattr(self, field)}, expected 1 to {_MOST}")

    @classmethod
    def default(cls) -> Policy:
        """Authentic, unmodified, up to date, bound together; for evidence of any age."""
        return _shipped("default")

    @classmethod
    def strict(cls) -> Policy:
        """For admitting a live node: every check that needs no value of the author's own."""
        return _shipped("strict")

    def expecting(self, *kinds: str) -> Policy:
        """This policy for evidence of ``kinds`` alone: without the checks that those cannot answer.

        Args:
            kinds: of ``EVIDENCE_KINDS``.
        """
        families = {"gpu" if kind in ("gpu", "switch") else "cpu" for kind in kinds}
        families |= {"evidence"} | ({"binding"} if len(families) == 2 else set[str]())
        cpus = [kind for kind in kinds if kind in CPU_KINDS]
        missing = set.intersection(*(WITHOUT[kind] for kind in cpus)) if cpus and "cpu" not in kinds else set[str]()
        if "gpu" not in kinds:
            missing = missing | OF_GPUS
        kept = tuple(name for name in self.require if name.split(".")[0] in families and name not in missing)
        return dataclasses.replace(self, name=f"{self.name} for {', '.join(kinds)}", require=kept, evidence=kinds)

    def against(self, claims: Iterable[Claim]) -> list[Claim]:
        """Those of ``claims`` that stand against acceptance, waivers apart.

        A required check does unless it is asserted; another one if it is refuted and about evidence
        that the policy expects. What a vendor revoked always does.
        """
        required, asserted, refuted = frozenset(self.require), Status.ASSERTED, Status.REFUTED
        return [
            one
            for one in claims
            if (one.status is not asserted if one.check in required else one.status is refuted and self._expects(one))
        ]

    def _expects(self, claim: Claim) -> bool:
        """Whether a refuted claim is about evidence that the policy expects."""
        family = claim.check.partition(".")[0]
        kinds = {"gpu": ("gpu", "switch"), "cpu": ("cpu", *CPU_KINDS), "binding": ("cpu", *CPU_KINDS)}
        required = {name.partition(".")[0] for name in self.require}
        expected = family in ("evidence", *required) or any(kind in self.evidence for kind in kinds[family])
        if claim.check == "binding.gpu_nonce":
            expected &= "gpu" in required or any(kind in self.evidence for kind in kinds["gpu"])
        given = _OPTIONAL.get(claim.check, family)
        optional = given not in (family, *self.evidence) and REVOKED not in claim.reason
        return expected and not optional

    @classmethod
    def from_bytes(cls, data: bytes) -> Policy:
        """A policy from TOML or JSON, told apart by content.

        Its keys are the fields of this class; ``measurements`` is a table.

        Raises:
            PolicyError: unreadable, empty, or with an unknown or ill-typed key.
        """
        causes = (ValueError, InputError, RecursionError)  # a number of too many digits is a bare ValueError
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
        values["measurements"], values["snp_min_tcb"] = dict(self.measurements), dict(self.snp_min_tcb)
        values["waivers"] = [dict(vars(one)) for one in self.waivers]
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
    if key == "waivers":
        if isinstance(value, list) and all(isinstance(one, Mapping) for one in value):
            return tuple(_waiver(one) for one in value)
        raise PolicyError("policy waivers: expected a list of tables with check, until and why")
    if key == "snp_min_tcb":
        if isinstance(value, Mapping) and all(type(one) is int and 0 <= one < 256 for one in value.values()):
            return tuple(sorted(value.items()))
        raise PolicyError("policy snp_min_tcb: expected a table of component to number below 256")
    if isinstance(value, date):  # TOML has dates of its own
        value = value.isoformat()
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


def _waiver(fields: Mapping[str, Any]) -> Waiver:
    names = tuple(field.name for field in dataclasses.fields(Waiver))
    _known("waiver key", tuple(fields), names)
    texts = {name: one.isoformat() if isinstance(one, date) else one for name, one in fields.items()}
    if not all(isinstance(one, str) for one in texts.values()) or not set(names[:3]) <= texts.keys():
        raise PolicyError("policy waiver: expected the texts check, until and why, and found if it is to be narrow")
    return Waiver(**texts)
