"""Whole responses and vendor files as people have them: every dialect found in the field, and lies about them."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.bundle import MAX_FILE_BYTES, MAX_MANIFESTS, MAX_RESPONSES
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.claims import Status
from otr_core.attestation.quote import parse_collateral, parse_quote
from otr_core.attestation.snp import SnpCertificates
from otr_core.errors import EvidenceError
from otr_core.poea.attested import pack_evidence
from otr_node.evidence.intake import MAX_TOKENS, Intake, read_evidence
from otr_node.evidence.outcome import judge
from otr_node.evidence.pieces import MAX_PIECES, PieceReader, as_nonce
from otr_paper.benches.hostile import hostile_files, reading_s
from tests.helpers.field_captures import listed

DEFAULT = Policy.default()
AUTHENTIC = ("gpu.signature", "gpu.chain.links", "gpu.chain.root")
Outside = Callable[[str], bytes]

#: One argument each: response, quotes (nodes), devices by node, and whether report_data's commitment to
#: the GPU nonce can be followed from this file alone.
WHOLE = {
    "chutes_zai-org_glm-5-tee_20260520_021819/0002": [8] * 4,
    "chutes_zai-org_glm-5-tee_20260610_015029/0002": [8] * 7,
    "nanogpt_20260325_225022/deepseek-v3.2_attestation": [8] * 5,
    "nanogpt_20260325_225022/gemma-3-27b-it_attestation": [1],
    "nanogpt_20260325_225022/glm-4.7-flash_attestation": [1],
    "nanogpt_20260325_225022/glm-4.7_attestation": [0, 8, 8, 8],
    "nanogpt_20260325_225022/glm-5_attestation": [0, 8, 8, 8],
    "nanogpt_20260325_225022/gpt-oss-120b_attestation": [1],
    "nanogpt_20260325_225022/gpt-oss-20b_attestation": [1],
    "nanogpt_20260325_225022/kimi-k2.5_attestation": [8] * 5,
    "nanogpt_20260325_225022/llama3-3-70b_attestation": [0],
    "nanogpt_20260325_225022/qwen2.5-vl-72b-instruct_attestation": [1],
    "nanogpt_20260325_225022/qwen3-30b-a3b-instruct-2507_attestation": [0, 8],
    "nanogpt_20260325_225022/qwen3.5-27b_attestation": [1],
    "nanogpt_tee_gemma-3-27b-it_20260610_014905/0001": [1],
    "nearcloud_qwen_qwen3.5-122b-a10b_20260424_020614/0001": [0, 0, 8],
    "nearcloud_qwen_qwen3.5-122b-a10b_20260610_014855/0001": [0, 0, 8],
    "neardirect_qwen_qwen3.5-122b-a10b_20260424_021037/0001": [8, 0],
    "neardirect_qwen_qwen3.5-122b-a10b_20260610_015359/0001": [8, 0],
    "phalacloud_phala_deepseek-v3.2_20260610_014917/0001": [8] * 5,
    "tinfoil_v3_direct_gemma4-31b_20260622_235412/0002": [1],
    "venice_e2ee-qwen3-5-122b-a10b_20260424_015841/0001": [8, 0],
    "venice_e2ee-qwen3-5-122b-a10b_20260610_014707/0001": [8, 0],
}
CAPTURES = sorted({name.partition("/")[0] for name in listed() if "_gpu.body" in name})


def files_of(outside: Outside, prefix: str) -> list[tuple[str, bytes]]:
    names = [name for name in listed() if name.startswith(prefix)]
    return [(name, outside(f"field-captures/{name}")) for name in names]


def response(outside: Outside, prefix: str) -> tuple[str, bytes]:
    return next(pair for pair in files_of(outside, prefix) if pair[0].endswith((".body", "_attestation.json")))


def instant_of(outside: Outside, folder: str) -> datetime:
    manifest = json.loads(outside(f"field-captures/{folder}/manifest.json"))
    return datetime.fromisoformat(manifest["captured_at"])


def judged(found: Intake, as_of: datetime, **given: Any) -> list[Appraisal]:
    return [appraise(node.bundle, DEFAULT, as_of, **given) for node in found.nodes]


def statuses(result: Appraisal, ending: str) -> set[Status]:
    return {claim.status for claim in result.claims if claim.id.endswith(ending)}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_response_is_read_by_one_argument(outside: Outside, name: str) -> None:
    found = read_evidence([response(outside, name)])
    devices = [len(node.bundle.devices) for node in found.nodes]
    assert devices == WHOLE[name]
    assert len({node.bundle.quote.identity for node in found.nodes if node.bundle.quote}) == len(found.nodes)
    for result, count in zip(judged(found, datetime(2026, 6, 23, tzinfo=UTC)), devices, strict=True):
        if count:
            assert statuses(result, ".signature") >= {Status.ASSERTED}
            assert Status.REFUTED not in statuses(result, ".signature") | statuses(result, ".stated_nonce")
            assert result.claim("binding.gpu_nonce").status is Status.ASSERTED
            assert result.claim("gpu.unique").status is Status.ASSERTED
        # All that a response lacks is what vendors say: nothing that was looked at is wrong with it.
        missing = set() if count else {"evidence.present"}  # the policy expects a GPU of every node
        assert {claim.check for claim in result.claims if claim.status is Status.REFUTED} == missing
    taken = {(use.file, use.place) for use in found.taken}
    assert len(taken) == len(found.taken)
    assert not taken & {(use.file, use.place) for use in found.ignored}


def test_every_response_that_was_recorded_is_in_the_list() -> None:
    recorded = [name for name in listed() if name.startswith("nanogpt_20260325") and name.endswith(".json")]
    assert len(recorded) == 12
    assert all(any(name.startswith(prefix) for prefix in WHOLE) for name in recorded)
    assert {prefix.partition("/")[0] for prefix in WHOLE} >= set(CAPTURES)
    assert len(CAPTURES) == 11


@pytest.mark.parametrize("folder", CAPTURES)
def test_no_part_of_a_capture_left_out_turns_a_rejected_node_into_an_accepted_one(
    outside: Outside, folder: str
) -> None:
    """Of every node of every capture, under policies that miss something of it: each device, each
    vendor's word, the log, the compose file, the quote."""
    as_of, cache = instant_of(outside, folder), VerifiedCache()
    alone = dataclasses.replace(DEFAULT.expecting("gpu"), name="its devices", require=AUTHENTIC)
    policies = [
        DEFAULT,
        DEFAULT.expecting("cpu"),
        dataclasses.replace(alone, gpu_count=9, require=(*AUTHENTIC, "gpu.count")),
    ]
    tried = 0
    for node in read_evidence(files_of(outside, f"{folder}/")).nodes:
        bundle = node.bundle
        fields = ("devices", "rims", "ocsp")
        fewer = [
            {name: tuple(one for at, one in enumerate(getattr(bundle, name)) if at != gone)}
            for name in fields
            for gone in range(len(getattr(bundle, name)))
        ]
        fewer += [{name: None} for name in ("quote", "collateral", "event_log", "compose", "preimage", "config")]
        fewer.append({"quote": None, "collateral": None, "event_log": None, "compose": None})
        for policy in policies:
            if appraise(bundle, policy, as_of, cache=cache).accepted:
                continue
            for change in fewer:
                with contextlib.suppress(EvidenceError):  # nothing is left
                    less = dataclasses.replace(bundle, **change)
                    tried += 1
                    assert not appraise(less, policy, as_of, cache=cache).accepted, (node.name, policy.name, change)
    assert tried > 10


@pytest.mark.parametrize("folder", CAPTURES)
def test_a_captures_folder_gives_the_verdict_of_its_minute(outside: Outside, folder: str) -> None:
    """Quotes are verified a second time by dcap-qvl alone, on collateral put together here."""
    as_of = instant_of(outside, folder)
    found = read_evidence(files_of(outside, f"{folder}/"))
    verified = 0
    for node, result in zip(found.nodes, judged(found, as_of), strict=True):
        bundle = node.bundle
        assert bundle.quote is not None
        assert not isinstance(bundle.collateral, SnpCertificates)
        if bundle.collateral is None:
            # Chutes asks Intel for one platform family alone: of the other nothing is known.
            assert folder.startswith("chutes")
            assert result.claim("cpu.quote").status is Status.UNKNOWN
            continue
        verified += 1
        again = dcap_qvl.verify(bundle.quote.raw, bundle.collateral.parsed, int(as_of.timestamp()))
        assert result.claim("cpu.quote").status is Status.ASSERTED
        assert result.cpu is not None
        assert result.cpu["tcb_status"] == again.status
        assert (again.status == "UpToDate") == (result.claim("cpu.tcb").status is Status.ASSERTED)
        refuted = {claim.check for claim in result.claims if claim.status is Status.REFUTED}
        refuted -= set() if bundle.devices else {"evidence.present"}  # the policy expects a GPU of every node
        assert refuted <= ({"cpu.tcb", "cpu.advisories"} if again.status != "UpToDate" else set())
    assert verified


def test_the_clients_nonce_decides_freshness_in_every_dialect(outside: Outside) -> None:
    """As sent (NEAR, Venice, Tinfoil), digested with a key (Chutes); Phala sent one of its own."""
    fresh = {}
    for folder in CAPTURES:
        nonce = bytes.fromhex(json.loads(outside(f"field-captures/{folder}/manifest.json"))["nonce_hex"])
        # The manifest is the client's own: without it nothing else in the folder is.
        files = [pair for pair in files_of(outside, f"{folder}/") if not pair[0].endswith("manifest.json")]
        files += [("manifest", json.dumps({"nonce_hex": nonce.hex()}).encode())]
        results = judged(read_evidence(files), instant_of(outside, folder), nonce=nonce)
        fresh[folder] = Counter(claim.status for one in results for claim in one.claims if claim.check == "gpu.nonce")
    assert {name: dict(found) for name, found in fresh.items() if Status.REFUTED in found} == {
        # two of seven instances sent no key; another nonce went to the third provider's machines
        "chutes_zai-org_glm-5-tee_20260610_015029": {Status.ASSERTED: 40, Status.REFUTED: 16},
        "phalacloud_phala_deepseek-v3.2_20260610_014917": {Status.REFUTED: 40},
    }
    assert all(Status.ASSERTED in found or Status.REFUTED in found for found in fresh.values())


def test_a_nonce_in_a_file_is_never_the_expected_one(outside: Outside) -> None:
    name = "nanogpt_20260325_225022/gemma-3-27b-it"
    files = files_of(outside, name)
    assert any(pair[0].endswith("_nonce.txt") for pair in files)
    (result,) = judged(read_evidence(files), datetime(2026, 3, 26, tzinfo=UTC))
    assert statuses(result, "gpu.0.nonce") == {Status.UNKNOWN}
    assert statuses(result, "gpu.0.stated_nonce") == {Status.ASSERTED}
    # This provider asked its machines with another nonce than the client's.
    nonce = as_nonce(outside(f"field-captures/{name}_nonce.txt").decode())
    (result,) = judged(read_evidence(files), datetime(2026, 3, 26, tzinfo=UTC), nonce=nonce)
    assert statuses(result, "gpu.0.nonce") == {Status.REFUTED}


class TestVendorFiles:
    def test_an_hgx_machine_in_jsonpickle(self, outside: Outside) -> None:
        found = read_evidence([("ppcie.json", outside("hgx/test_ppcie_data.json"))])
        (node,) = found.nodes
        assert Counter(device.kind for device in node.bundle.devices) == {"gpu": 8, "switch": 4}
        assert all(len(device.chain) == 5 for device in node.bundle.devices)
        (result,) = judged(found, datetime(2026, 8, 14, tzinfo=UTC))
        assert {claim.status for claim in result.claims if claim.check == "gpu.signature"} == {Status.ASSERTED}
        assert {claim.status for claim in result.claims if claim.check == "gpu.chain.root"} == {Status.ASSERTED}

    def test_two_blackwell_gpus(self, outside: Outside) -> None:
        found = read_evidence([("mpt.json", outside("hgx/blackwell_two_of_mpt.json"))])
        (result,) = judged(found, datetime(2026, 8, 14, tzinfo=UTC))
        assert [claim.status for claim in result.claims if claim.check == "gpu.signature"] == [Status.ASSERTED] * 2
        assert {device.facts["architecture"] for device in result.devices} == {"GB100"}

    @pytest.mark.parametrize("wrap", ["raw", "hex", "0x", "base64", "url", "list", "gzip", "json"])
    def test_every_encoding_of_a_report(self, h100_report: bytes, h100_chain: bytes, wrap: str) -> None:
        data = {
            "raw": h100_report,
            "hex": h100_report.hex().encode(),
            "0x": f"0x{h100_report.hex().upper()}\n".encode(),
            "base64": base64.encodebytes(h100_report),
            "url": base64.urlsafe_b64encode(h100_report).rstrip(b"="),
            "list": json.dumps({"report": list(h100_report)}).encode(),
            "gzip": gzip.compress(h100_report),
            "json": json.dumps({"a": json.dumps([{"b": base64.b64encode(h100_report).decode()}])}).encode(),
        }[wrap]
        found = read_evidence([("report", data), ("chain", h100_chain)])
        (device,) = found.nodes[0].bundle.devices
        assert device.report.raw == h100_report
        assert len(device.chain) == 5

    def test_the_kit_of_this_project(self, h100_files: dict[str, Any], outside: Outside) -> None:
        """What ``otr collect`` writes, as one file and one by one."""
        quote, log = outside("phala-dcap-qvl/tdx_quote"), outside("near-mpc/tcb_info.json")
        files = {"quote": quote, "gpu": h100_files["gpu"], "gpu_certs": h100_files["gpu_certs"], "event_log": log}
        packed = json.dumps(pack_evidence(files | {"rims": h100_files["rims"], "keys": b"{}"})).encode()
        (node,) = read_evidence([("evidence.json", packed)]).nodes
        bundle = node.bundle
        assert bundle.quote is not None
        assert bundle.quote.raw == quote
        assert (len(bundle.devices), len(bundle.devices[0].chain), len(bundle.rims)) == (1, 5, 2)
        assert bundle.event_log is not None
        loose = [("q.bin", quote), ("g.bin", h100_files["gpu"][0]), ("c.pem", h100_files["gpu_certs"][0])]
        (again,) = read_evidence([*loose, *((f"{n}.xml", rim) for n, rim in enumerate(h100_files["rims"]))]).nodes
        assert again.bundle.devices == bundle.devices
        assert again.bundle.rims == bundle.rims

    def test_collateral_of_dcap_qvl_beside_its_quote(self, outside: Outside) -> None:
        pair = [outside("phala-dcap-qvl/tdx_quote"), outside("phala-dcap-qvl/tdx_quote_collateral.json")]
        found = read_evidence([("q", pair[0]), ("c", pair[1])])
        (result,) = judged(found, datetime(2025, 6, 20, tzinfo=UTC))
        assert result.claim("cpu.quote").status is Status.ASSERTED

    def test_a_published_record_with_everything_in_it(self, outside: Outside) -> None:
        found = read_evidence([("public_data.json", outside("near-mpc/public_data.json"))])
        (result,) = judged(found, datetime(2026, 8, 14, tzinfo=UTC))
        for check in ("cpu.quote", "cpu.tcb", "cpu.event_log", "cpu.rtmr3", "cpu.compose"):
            assert result.claim(check).status is Status.ASSERTED, check


class TestWhatBelongsTogether:
    @pytest.fixture(scope="class")
    def machine(self, outside: Outside) -> dict[str, Any]:
        """A response of one node with eight GPUs, parsed."""
        document: dict[str, Any] = json.loads(response(outside, "venice_e2ee-qwen3-5-122b-a10b_20260610")[1])
        del document["compose_manager_attestation"]
        return document

    def read(self, *documents: Any) -> Intake:
        return read_evidence([(f"{at}.json", json.dumps(one).encode()) for at, one in enumerate(documents)])

    def test_two_nodes_in_two_files_keep_their_own(self, machine: dict[str, Any], outside: Outside) -> None:
        other = json.loads(response(outside, "nanogpt_20260325_225022/gemma")[1])
        found = self.read(machine, other)
        assert [len(node.bundle.devices) for node in found.nodes] == [8, 1]
        assert [node.name.partition(" ")[0] for node in found.nodes] == ["0.json", "1.json"]

    def test_the_same_response_twice_is_one_node(self, machine: dict[str, Any]) -> None:
        found = self.read(machine, machine)
        assert [len(node.bundle.devices) for node in found.nodes] == [8]
        assert any("elsewhere" in use.use for use in found.ignored)

    def test_a_gpu_beside_two_nodes_is_a_node_of_its_own(
        self, machine: dict[str, Any], outside: Outside, h100_report: bytes
    ) -> None:
        other = json.loads(response(outside, "nanogpt_20260325_225022/gemma")[1])
        found = self.read(machine, other, {"report": h100_report.hex()})
        assert [(len(node.bundle.devices), node.bundle.quote is None) for node in found.nodes] == [
            (8, False),
            (1, False),
            (1, True),
        ]

    def test_of_two_logs_the_one_that_replays_is_taken(self, machine: dict[str, Any]) -> None:
        forged = json.loads(json.dumps(machine["event_log"]).replace("00", "01"))
        found = self.read({"event_log": forged, "inner": machine})
        (result,) = judged(found, datetime(2026, 6, 10, 2, tzinfo=UTC))
        assert result.claim("cpu.rtmr3").status is Status.ASSERTED

    def test_a_forged_log_alone_is_refuted(self, machine: dict[str, Any]) -> None:
        changed = json.loads(json.dumps(machine))
        for log in (changed["event_log"], changed["info"]["tcb_info"]["event_log"]):
            log[-1]["event_payload"] = "00" + log[-1]["event_payload"][2:]
        (result,) = judged(self.read(changed), datetime(2026, 6, 10, 2, tzinfo=UTC))
        assert Status.REFUTED in statuses(result, "cpu.rtmr3") | statuses(result, "cpu.event_log")

    def test_a_splice_of_another_machines_quote_is_refuted(self, machine: dict[str, Any], outside: Outside) -> None:
        other = json.loads(response(outside, "nanogpt_20260325_225022/gemma")[1])
        (result,) = judged(
            self.read(machine | {"intel_quote": other["intel_quote"]}), datetime(2026, 6, 10, tzinfo=UTC)
        )
        assert result.claim("binding.gpu_nonce").status is Status.REFUTED

    def test_a_stated_list_of_digests_counts_only_if_it_hashes_to_report_data(self, outside: Outside) -> None:
        document = json.loads(response(outside, "tinfoil_v3_direct_gemma4-31b_20260622_235412/0002")[1])
        (result,) = judged(self.read(document), datetime(2026, 6, 23, tzinfo=UTC))
        assert result.claim("binding.gpu_nonce").status is Status.ASSERTED
        for name in document["report_data"]:
            lie = json.loads(json.dumps(document))
            lie["report_data"][name] = "ab" * 32
            (result,) = judged(self.read(lie), datetime(2026, 6, 23, tzinfo=UTC))
            assert result.claim("binding.gpu_nonce").status is Status.REFUTED, name

    def test_a_key_of_chutes_that_was_changed_is_noticed(self, outside: Outside) -> None:
        document = json.loads(response(outside, "phalacloud_phala")[1])
        document["all_attestations"] = document["all_attestations"][:1]
        own = bytes.fromhex(document["nonce"])
        (good,) = judged(self.read(document), datetime(2026, 6, 10, 2, tzinfo=UTC), nonce=own)
        assert good.claim("gpu.0.nonce").status is Status.ASSERTED
        document["all_attestations"][0]["e2e_pubkey"] = document["all_attestations"][0]["e2e_pubkey"][::-1]
        (bad,) = judged(self.read(document), datetime(2026, 6, 10, 2, tzinfo=UTC), nonce=own)
        assert bad.claim("gpu.0.nonce").status is Status.REFUTED

    def test_a_nonce_that_the_digest_does_not_begin_with_is_no_meaning_of_it(self, outside: Outside) -> None:
        """The true nonce stands in the response, another one beside the device: that is a lie about it."""
        document = json.loads(response(outside, "phalacloud_phala")[1])
        (one,) = document["all_attestations"] = document["all_attestations"][:1]
        (good,) = judged(self.read(document), datetime(2026, 6, 10, 2, tzinfo=UTC))
        assert good.claim("gpu.0.stated_nonce").status is Status.ASSERTED
        one["nonce"] = "cd" * 32
        (bad,) = judged(self.read(document), datetime(2026, 6, 10, 2, tzinfo=UTC))
        assert bad.bundle.preimage == good.bundle.preimage
        assert bad.claim("gpu.0.stated_nonce").status is Status.REFUTED


class TestDecoys:
    """Beside good evidence lies what fits it badly, and says that it is newer: it takes nobody's place."""

    FOLDER = "venice_e2ee-qwen3-5-122b-a10b_20260610_014707"
    OLDER = "venice_e2ee-qwen3-5-122b-a10b_20260424_015841"

    def statuses(self, outside: Outside, files: list[tuple[str, bytes]]) -> set[Status]:
        results = judged(read_evidence(files), instant_of(outside, self.FOLDER))
        return {one.claim("cpu.quote").status for one in results}

    def test_of_intels_words_the_latest_is_taken(self, outside: Outside) -> None:
        own = files_of(outside, f"{self.FOLDER}/")
        older = [pair for pair in files_of(outside, f"{self.OLDER}/") if "intel" in pair[0]]
        assert len(older) == 8
        assert self.statuses(outside, [*older, *own]) == {Status.ASSERTED}
        assert self.statuses(outside, [*own, *older]) == {Status.ASSERTED}
        late = [pair for pair in own if "intel" not in pair[0]]
        assert self.statuses(outside, [*late, *older]) == {Status.REFUTED}

    @pytest.mark.parametrize("decoy", ["tcb_info", "qe_identity", "crl"])
    def test_of_another_kind_or_issuer_nothing_is_taken(self, outside: Outside, decoy: str) -> None:
        own = files_of(outside, f"{self.FOLDER}/")
        name, part = {
            "tcb_info": ("_tcb.body", "tcbInfo"),
            "qe_identity": ("_qe_identity.body", "enclaveIdentity"),
        }.get(decoy, ("", ""))
        if part:
            document = json.loads(next(data for file, data in own if file.endswith(name)))
            document[part] |= {"id": "QE" if decoy == "qe_identity" else "SGX", "issueDate": "2099-01-01T00:00:00Z"}
            data = json.dumps(document).encode()
        else:
            key, end = ec.generate_private_key(ec.SECP256R1()), datetime(2100, 1, 1, tzinfo=UTC)
            made = x509.CertificateRevocationListBuilder().issuer_name(x509.Name([]))
            made = made.last_update(datetime(2099, 1, 1, tzinfo=UTC)).next_update(end)
            data = made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
        assert [one.kind for one in PieceReader([]).file("d", data).pieces] == [decoy]
        assert self.statuses(outside, [("decoy", data), *own]) == {Status.ASSERTED}
        assert self.statuses(outside, [*own, ("decoy", data)]) == {Status.ASSERTED}

    def test_of_two_collaterals_that_of_the_platform_is_taken(self, outside: Outside) -> None:
        quote = ("q", outside("phala-dcap-qvl/tdx_quote"))
        pair = [
            ("c", outside("phala-dcap-qvl/tdx_quote_collateral.json")),
            ("d", outside("phala-dcap-qvl/sgx_quote_collateral.json")),
        ]
        assert len({parse_collateral(data).fmspc for _, data in pair}) == 2
        for files in ([quote, *pair], [quote, *pair[::-1]]):
            (result,) = judged(read_evidence(files), datetime(2025, 6, 20, tzinfo=UTC))
            assert result.claim("cpu.quote").status is Status.ASSERTED


class TestBadFiles:
    def test_a_broken_quote_is_named_by_file_and_place(self, outside: Outside) -> None:
        document = json.loads(response(outside, "nanogpt_20260325_225022/gemma")[1])
        document["intel_quote"] = document["intel_quote"][:1200]
        with pytest.raises(EvidenceError, match=r"^answer\.json at /intel_quote: quote: found"):
            read_evidence([("answer.json", json.dumps(document).encode())])

    def test_a_broken_report_is_named_by_file_and_place(self, outside: Outside) -> None:
        document = json.loads(outside("hgx/blackwell_two_of_mpt.json"))
        report = document["gpus"][1]["AttestationReport"]
        report["py/b64"] = base64.b64encode(base64.b64decode(report["py/b64"])[:-1]).decode()
        with pytest.raises(EvidenceError, match=r"^x at /gpus/1/AttestationReport/py~1b64: found an NVIDIA report"):
            read_evidence([("x", json.dumps(document).encode())])

    def test_broken_side_pieces_are_ignored_with_a_reason(self, h100_files: dict[str, Any]) -> None:
        gpu = [("r", h100_files["gpu"][0]), ("c", h100_files["gpu_certs"][0])]
        manifest = h100_files["rims"][0].replace(b"colloquialVersion", b"colloquial")
        found = read_evidence([*gpu, ("rim", manifest), ("ocsp", b"\x30\x82\x01\x00\x0a\x01\x00" + bytes(300))])
        assert len(found.nodes) == 1
        unreadable = {use.file: use.use for use in found.ignored}
        assert unreadable["rim"].startswith("unreadable: RIM")
        assert unreadable["ocsp"].startswith("unreadable: ")

    @pytest.mark.parametrize(
        ("data", "word"),
        [
            (b"", "empty file"),
            (b"\xff\xd8\xff" + bytes(600), "JPEG"),
            (b"hello world", "nothing in it is evidence"),
            (b"{}", "JSON"),
            (b'{"a": 1, "a": 2}', "found twice"),
            (b"[" * 100_000, "levels"),
            (b"\x1f\x8b\x08" + bytes(500), "gzip"),
            (b"<html></html>", "XML"),
            (json.dumps({"verified": True, "quote": "aa" * 400}).encode(), "nothing in it is evidence"),
        ],
    )
    def test_no_evidence_is_an_error_that_names_the_file(self, data: bytes, word: str) -> None:
        with pytest.raises(EvidenceError) as caught:
            read_evidence([("the-file", data)])
        assert str(caught.value).startswith("the-file")
        assert word in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_nothing_of_8_mb_takes_long(self, h100_report: bytes, h100_chain: bytes, outside: Outside) -> None:
        """Under two seconds each in a process of its own, which ``otr bench appraise`` measures; in one that
        holds models the collector walks those too. Time that grows with the square of the size takes minutes."""
        raw = {"report": h100_report, "chain": h100_chain, "quote": outside("phala-dcap-qvl/tdx_quote")}
        took = dict[str, float]()
        for name, data in hostile_files(raw):
            assert MAX_FILE_BYTES // 2 < len(data) <= MAX_FILE_BYTES, name
            took[name] = reading_s(name, data)
        assert MAX_FILE_BYTES // len(base64.b64encode(h100_report)) * 2 > MAX_PIECES
        assert len(took) == 19
        assert max(took.values()) < 20, took


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("ab" * 32, True),
        ("0x" + "AB" * 32, True),
        (base64.b64encode(b"\xab" * 32).decode(), True),
        (base64.urlsafe_b64encode(b"\xff" * 32).decode().rstrip("="), True),
        ("ab" * 31, False),
        ("", False),
        ("0x" + "zz" * 32, False),
    ],
)
def test_forms_of_a_nonce(text: str, good: bool) -> None:
    found = as_nonce(text)
    assert (found in (b"\xab" * 32, b"\xff" * 32)) if good else found is None


def test_every_quote_in_the_captures_is_a_distinct_claim_on_report_data(outside: Outside) -> None:
    """Whoever re-sent a quote would be seen: no two answers of different minutes share one."""
    seen: dict[str, set[str]] = {}
    for name in WHOLE:
        for node in read_evidence([response(outside, name)]).nodes:
            assert node.bundle.quote is not None
            assert parse_quote(node.bundle.quote.raw).identity == node.bundle.quote.identity
            seen.setdefault(node.bundle.quote.identity, set()).add(name)
    assert {len(names) for names in seen.values()} == {1}


def test_a_file_beyond_the_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(EvidenceError, match="big: found 8388609 bytes, expected evidence of at most 8388608"):
        PieceReader([]).file("big", bytes(MAX_FILE_BYTES + 1))


class TestMany:
    """As much as 8 MB hold of what costs a signature each, judged: two seconds in a process of its own."""

    NOW = datetime(2025, 8, 21, 12, tzinfo=UTC)

    def took(self, document: dict[str, Any]) -> float:
        data, started, cache = json.dumps(document).encode(), time.process_time(), VerifiedCache(max_entries=8)
        assert len(data) <= MAX_FILE_BYTES
        found = judge(
            read_evidence([("many", data)], cache=cache),
            lambda bundle: appraise(bundle, DEFAULT, self.NOW, cache=cache),
            self.NOW,
        )
        assert not found.accepted
        return time.process_time() - started

    @pytest.fixture
    def devices(self, h100_files: dict[str, Any], h100_report: bytes) -> list[dict[str, str]]:
        chain = base64.b64encode(h100_files["gpu_certs"][0]).decode()
        reports = [h100_report[:4] + at.to_bytes(8, "big") + h100_report[12:] for at in range(60)]
        return [{"evidence": base64.b64encode(one).decode(), "certificate": chain} for one in reports]

    def test_forged_manifests_and_responses_cost_a_signature_each(
        self, devices: list[dict[str, str]], h100_files: dict[str, Any], h100_ocsp: dict[str, bytes]
    ) -> None:
        """Beside sixty devices that each is tried for, and through a cache that holds few of them."""
        driver = h100_files["rims"][0]
        forged = [driver.replace(b'name="Measurement_0"', b'name="M%d"' % at, 1) for at in range(MAX_MANIFESTS)]
        rims = [base64.b64encode(one).decode() for one in forged]
        good = base64.b64decode(h100_ocsp["gpu_l3"])
        broken = [good[:-8] + at.to_bytes(8, "big") for at in range(MAX_RESPONSES)]
        ocsp = [base64.b64encode(one).decode() for one in broken]
        assert self.took({"gpus": devices, "rims": rims[:240]}) < 20
        assert self.took({"gpus": devices, "ocsp": ocsp}) < 20
        one = [json.dumps(devices[0]).encode()]
        with pytest.raises(EvidenceError, match="manifests, expected at most"):
            load_bundle(gpu=one, rims=[*forged, driver])
        with pytest.raises(EvidenceError, match="responses, expected at most"):
            load_bundle(gpu=one, ocsp=[*broken, good])

    def test_tokens_are_bounded(self, devices: list[dict[str, str]]) -> None:
        def text(at: int) -> str:
            claims = base64.urlsafe_b64encode(json.dumps({"n": at, "pad": "p" * 200}).encode()).decode()
            return f"eyJhbGciOiJFUzM4NCJ9.{claims.rstrip('=')}.{'A' * 128}"

        texts = [text(at) for at in range(MAX_TOKENS + 1)]
        assert self.took({"gpu": devices[0], "tokens": texts[1:]}) < 20
        with pytest.raises(EvidenceError, match="many: found 513 tokens, expected at most 512"):
            self.took({"gpu": devices[0], "tokens": texts})

    def test_nodes_are_bounded(self, outside: Outside) -> None:
        raw = outside("phala-dcap-qvl/tdx_quote")
        quotes = [(raw[:600] + at.to_bytes(8, "big") + raw[608:]).hex() for at in range(65)]
        assert len(read_evidence([("q", json.dumps([{"quote": one} for one in quotes[1:]]).encode())]).nodes) == 64
        with pytest.raises(EvidenceError, match="q: found 65 quotes, expected at most 64"):
            read_evidence([("q", json.dumps([{"quote": one} for one in quotes]).encode())])
