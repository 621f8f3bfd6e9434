"""Tokens of third parties beside our own claims, and our own for others: tokens and flat documents."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cedarpy
import pytest
import regopy
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.appraisal import Appraisal
from otr_core.errors import EvidenceError, InputError
from otr_node.evidence.export import flat_input, result_claims, sign_token, signing_key
from otr_node.evidence.intake import read_evidence
from otr_node.evidence.outcome import judge
from otr_node.evidence.tokens import read_token, relay
from tests.helpers.field_captures import listed

DEFAULT = Policy.default()
Outside = Callable[[str], bytes]
CAPTURES = sorted({name.partition("/")[0] for name in listed() if "_gpu.body" in name})


def capture(outside: Outside, folder: str) -> tuple[Any, datetime]:
    names = [name for name in listed() if name.startswith(f"{folder}/")]
    found = read_evidence([(name, outside(f"field-captures/{name}")) for name in names])
    return found, datetime.fromisoformat(json.loads(outside(f"field-captures/{folder}/manifest.json"))["captured_at"])


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class TestOfNvidia:
    def test_all_recorded_tokens_verify_under_the_recorded_keys(self, outside: Outside) -> None:
        problems: Counter[str | None] = Counter()
        for folder in CAPTURES:
            found, as_of = capture(outside, folder)
            problems.update(read_token(text, found.keys, as_of).problem for text in found.tokens)
        assert problems == {None: 85}

    def test_every_part_of_a_token_that_is_changed_is_noticed(self, outside: Outside) -> None:
        found, as_of = capture(outside, CAPTURES[2])
        text = found.tokens[-1]
        for at in range(0, len(text) - 3, 7):
            changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
            try:
                problem = read_token(changed, found.keys, as_of).problem
            except EvidenceError:
                continue
            # The last letter of a part may carry bits that no byte takes.
            assert (
                problem is not None or b64(base64.urlsafe_b64decode(changed.split(".")[2] + "==")) != text.split(".")[2]
            )

    def test_dates_and_missing_keys(self, outside: Outside) -> None:
        found, as_of = capture(outside, CAPTURES[2])
        text = found.tokens[0]
        assert read_token(text, [], as_of).problem == "no key of its issuer is in the files"
        assert read_token(text, found.keys, as_of + timedelta(hours=2)).problem == "it has expired"
        assert read_token(text, found.keys, as_of - timedelta(hours=2)).problem == "it is from the future"

    def test_their_claims_stand_beside_ours_for_the_same_report(self, outside: Outside) -> None:
        nonce = bytes.fromhex("a8c5455663ef4951c4a6fef8de2a079934c8e93c67626e7311bf385ba6724c9e")
        found, as_of = capture(outside, "tinfoil_v3_direct_gemma4-31b_20260622_235412")
        outcome = judge(found, lambda bundle: appraise(bundle, DEFAULT, as_of, nonce=nonce), as_of)
        rows = {row.claim: row for row in outcome.relayed}
        assert rows["attestation-report-signature-verified"].outcome == "agrees"
        assert rows["attestation-report-nonce-match"].outcome == "agrees"
        assert rows["vbios-version"].theirs == rows["vbios-version"].ours == "96.00.D9.00.02"
        assert rows["measres"].outcome == "not compared"  # the manifests are not in the capture
        assert {row.outcome for row in outcome.relayed} == {"agrees", "not compared"}
        assert "agrees" in {row.outcome for row in outcome.relayed if row.claim == "token"}
        # Whatever they say, no verdict rests on it.
        assert (
            outcome.nodes
            == judge(
                dataclasses.replace(found, tokens=()), lambda b: appraise(b, DEFAULT, as_of, nonce=nonce), as_of
            ).nodes
        )

    def test_a_disagreement_is_named(self, outside: Outside) -> None:
        """The same report with one bit of its signature changed, which they never saw."""
        found, as_of = capture(outside, "tinfoil_v3_direct_gemma4-31b_20260622_235412")
        device = found.nodes[0].bundle.devices[0]
        raw = device.report.raw[:-1] + bytes([device.report.raw[-1] ^ 1])
        chain = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in device.chain)
        result = appraise(load_bundle(gpu=[raw], gpu_certs=[chain]), DEFAULT, as_of)
        tokens = [read_token(text, found.keys, as_of) for text in found.tokens]
        against = {row.claim: (row.theirs, row.ours) for row in relay(tokens, result) if row.outcome == "disagrees"}
        assert against["attestation-report-signature-verified"] == ("true", "refuted")
        assert against["overall result"] == ("accepted as a whole", "rejected")

    def test_a_token_on_other_evidence_is_told_as_such(self, outside: Outside) -> None:
        """NVIDIA refused Chutes' evidence: the nonce that was asked with is not the one that was signed."""
        found, as_of = capture(outside, CAPTURES[0])
        outcome = judge(found, lambda bundle: appraise(bundle, DEFAULT, as_of), as_of)
        said = [row for row in outcome.relayed if row.subject == "none here"]
        assert len(said) == 9
        assert sum("Nonce from request is not matching" in row.theirs for row in said) == 8
        assert {row.outcome for row in said} == {"not compared"}


class TestOfIntel:
    """The form of Intel Trust Authority, signed here: no recorded token was found."""

    @pytest.fixture(scope="class")
    def result(self, outside: Outside) -> Appraisal:
        files: dict[str, Any] = {
            "quote": outside("phala-dcap-qvl/tdx_quote"),
            "collateral": outside("phala-dcap-qvl/tdx_quote_collateral.json"),
        }
        return appraise(load_bundle(**files), DEFAULT, datetime(2025, 6, 20, tzinfo=UTC))

    def claims(self, result: Appraisal) -> dict[str, Any]:
        measured = dict((result.cpu or {})["measured"])
        return {
            "iss": "https://portal.trustauthority.intel.com",
            "attester_type": "TDX",
            "attester_tcb_status": "UpToDate",
            "tdx_is_debuggable": False,
            "tdx_report_data": measured["report_data"],
            "tdx_mrtd": measured["mr_td"],
            **{f"tdx_rtmr{n}": measured[f"rt_mr{n}"] for n in range(4)},
        }

    def signed(self, claims: Mapping[str, Any], algorithm: str = "PS384") -> tuple[str, list[dict[str, str]]]:
        head = {"alg": algorithm, "kid": "k", "typ": "JWT"}
        text = ".".join(b64(json.dumps(part).encode()) for part in (head, claims))
        if algorithm[0] == "E":
            key = ec.generate_private_key(ec.SECP256R1() if algorithm == "ES256" else ec.SECP384R1())
            token = sign_token(claims, key)
            return token, [
                json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["jwk"] | {"kid": kid_of(token)}
            ]
        key2 = rsa.generate_private_key(65537, 2048)
        kind = hashes.SHA384() if algorithm.endswith("384") else hashes.SHA256()
        scheme = padding.PSS(padding.MGF1(kind), kind.digest_size) if algorithm[0] == "P" else padding.PKCS1v15()
        public = key2.public_key().public_numbers()
        jwk = {"kty": "RSA", "kid": "k", "n": number(public.n), "e": number(public.e)}
        return f"{text}.{b64(key2.sign(text.encode(), scheme, kind))}", [jwk]

    @pytest.mark.parametrize("algorithm", ["PS384", "PS256", "RS256", "RS384", "ES256", "ES384"])
    def test_it_agrees_and_every_lie_disagrees(self, result: Appraisal, algorithm: str) -> None:
        claims = self.claims(result)
        text, keys = self.signed(claims, algorithm)
        token = read_token(text, keys, result.as_of)
        assert (token.form, token.problem) == ("Intel Trust Authority", None)
        rows = relay([token], result)
        assert {row.outcome for row in rows} == {"agrees"}
        assert len(rows) == 8
        lies = {
            "tdx_mrtd": "00" * 48,
            "tdx_rtmr2": "11" * 48,
            "tdx_is_debuggable": True,
            "attester_tcb_status": "OutOfDate",
        }
        for name, lie in lies.items():
            text, keys = self.signed(claims | {name: lie}, algorithm)
            found = [row.outcome for row in relay([read_token(text, keys, result.as_of)], result)]
            assert found.count("disagrees") == 1, name

    def test_a_token_on_another_quote_or_without_claims_is_not_compared(self, result: Appraisal, h100: Any) -> None:
        claims = self.claims(result)
        for other in (claims | {"tdx_report_data": "00" * 64}, claims | {"tdx": ["no", "object"]}):
            text, keys = self.signed(other, "ES384")
            assert relay([read_token(text, keys, result.as_of)], result) == ()
        text, keys = self.signed(claims | {"tdx_report_data": "None"}, "ES384")
        alone = appraise(h100, DEFAULT.expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC))
        assert relay([read_token(text, keys, result.as_of)], alone) == ()

    def test_another_key_or_algorithm_is_a_problem(self, result: Appraisal) -> None:
        text, keys = self.signed(self.claims(result))
        _, others = self.signed(self.claims(result))
        assert read_token(text, others, result.as_of).problem == "its signature does not verify under the key it names"
        _, body, signature = text.split(".")
        for algorithm in ("none", "HS256", "ES384", "PS999"):
            forged = ".".join((b64(json.dumps({"alg": algorithm, "kid": "k"}).encode()), body, signature))
            assert "does not go with" in str(read_token(forged, keys, result.as_of).problem)
        assert {row.outcome for row in relay([read_token(text, others, result.as_of)], result)} <= {
            "disagrees",
            "not compared",
        }


def kid_of(token: str) -> str:
    kid: str = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["kid"]
    return kid


@pytest.mark.parametrize(
    "text",
    ["", "a.b", "a.b.c", "....", "eyJ.eyJ.x", f"{b64(b'[]')}.{b64(b'{}')}.AA", "é.é.é", "e30.e30." + "A" * 70_000],
)
def test_what_is_no_token_is_said(text: str) -> None:
    with pytest.raises(EvidenceError, match="token"):
        read_token(text, [], datetime(2026, 1, 1, tzinfo=UTC))


class TestOurOwn:
    @pytest.fixture(scope="class")
    def result(self, h100: Any) -> Appraisal:
        return appraise(h100, DEFAULT.expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC))

    @pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
    def test_a_token_verifies_as_others_do_and_repeats(self, result: Appraisal, curve: ec.EllipticCurve) -> None:
        made = ec.generate_private_key(curve)
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        token = sign_token(result_claims([result]), signing_key(pem))
        assert token == sign_token(result_claims([result]), signing_key(pem))
        head = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
        read = read_token(token, [head["jwk"] | {"kid": head["kid"]}], result.as_of)
        assert read.problem is None
        assert read.claims["ear.status"] == "affirming"
        assert read.claims["submods"]["GPU-0"]["measres"] == "success"
        thumb = json.dumps(head["jwk"], sort_keys=True, separators=(",", ":")).encode()
        assert head["kid"] == b64(hashlib.sha256(thumb).digest())

    def test_trustworthiness_follows_the_claims(self, h100: Any, result: Appraisal) -> None:
        good = result_claims([result])["ear.trustworthiness-vector"]
        assert good["instance-identity"] == good["executables"] == 2
        assert good["hardware"] == 32 if "hardware" in good else True  # no revocation answers are in this bundle
        late = appraise(h100, DEFAULT.expecting("gpu"), datetime(2030, 1, 1, tzinfo=UTC))
        assert result_claims([late])["ear.status"] == "contraindicated"
        both = result_claims([result, late])
        assert both["ear.status"] == "contraindicated"
        assert [both["submods"][name]["ear.status"] for name in ("NODE-0", "NODE-1")] == [
            "affirming",
            "contraindicated",
        ]

    def test_what_nobody_looked_at_is_a_warning(self, h100_files: dict[str, Any]) -> None:
        """Without the VBIOS manifest the driver's measurements hold, and the VBIOS's are unknown."""
        half = load_bundle(**{**h100_files, "rims": h100_files["rims"][:1]})
        result = appraise(half, DEFAULT.expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC))
        vector = result_claims([result])["ear.trustworthiness-vector"]
        assert (vector["executables"], vector["instance-identity"]) == (32, 2)

    @pytest.mark.parametrize("pem", [b"", b"-----BEGIN PRIVATE KEY-----\nAA\n-----END PRIVATE KEY-----\n"])
    def test_what_is_no_key_is_said(self, pem: bytes) -> None:
        with pytest.raises(InputError, match="token key"):
            signing_key(pem)

    def test_a_key_of_another_kind_is_refused(self) -> None:
        pem = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with pytest.raises(InputError, match="P-256 or P-384"):
            signing_key(pem)


class TestPolicyEngines:
    """The example policies in docs/policies, run by the engines themselves."""

    @pytest.fixture(scope="class")
    def good(self, outside: Outside) -> dict[str, Any]:
        """The flat document of a production machine of eight GPUs, as a policy without manifests sees it."""
        found, as_of = capture(outside, "venice_e2ee-qwen3-5-122b-a10b_20260610_014707")
        nonce = bytes.fromhex("d2f37ab51f93f80365506fcc09119b28bd9c521be89ba25e3aa439912bbba732")
        require = tuple(
            name
            for name in DEFAULT.require
            if ".rim." not in name and ".measurements." not in name and name != "gpu.topology"
        )
        rules = dataclasses.replace(DEFAULT, name="without manifests", require=require)
        node = next(one for one in found.nodes if one.bundle.devices)
        result = appraise(node.bundle, rules, as_of, nonce=nonce)
        assert result.accepted, result.because
        return flat_input([result])

    def rego(self, project: Any, document: Mapping[str, Any]) -> bool:
        engine = regopy.Interpreter()
        engine.add_module("admit", (Path(project.root) / "docs/policies/admit.rego").read_text())
        engine.set_input(dict(document))
        # This engine answers a query that is false as one that has no answer.
        return [True] in [list(result.expressions) for result in engine.query("data.otr.admit").results]

    def cedar(self, project: Any, document: Mapping[str, Any]) -> bool:
        request = {"principal": 'Node::"n"', "action": 'Action::"admit"', "resource": 'Network::"otr"'}
        text = (Path(project.root) / "docs/policies/admit.cedar").read_text()
        answer = cedarpy.is_authorized({**request, "context": dict(document)}, text, [])
        assert not answer.diagnostics.errors
        return bool(answer.allowed)

    @pytest.mark.parametrize("engine", ["rego", "cedar"])
    def test_a_good_machine_is_admitted_and_every_lack_is_not(
        self, project: Any, good: dict[str, Any], engine: str
    ) -> None:
        ask = getattr(self, engine)
        assert ask(project, good)
        assert not ask(project, good | {"accepted": False})
        assert not ask(project, good | {"tcb_statuses": ["OutOfDate"]})
        assert not ask(project, good | {"gpus": 0})
        for status in ("refuted", "unknown"):
            worse = good | {status: [*good[status], "gpu.signature"]}
            worse["checks"] = good["checks"] | {"gpu.signature": status}
            assert not ask(project, worse)
        less = good | {"asserted": [one for one in good["asserted"] if one != "gpu.nonce"]}
        less["checks"] = good["checks"] | {"gpu.nonce": "not made"}
        assert not ask(project, less)

    def test_the_document_is_flat(self, good: dict[str, Any]) -> None:
        for name, value in good.items():
            if name == "checks":
                assert all(isinstance(one, str) for one in value.values())
            else:
                assert isinstance(value, str | int | bool) or all(isinstance(one, str) for one in value), name
        assert good["checks"]["gpu.topology"] in ("asserted", "not made", "unknown")
        assert (good["gpus"], good["nodes"]) == (8, 1)
