"""Each check of pieces, tokens and intake by itself, on the smallest input that meets it alone."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from otr_core.attestation import Bundle, Policy, appraise, load_bundle
from otr_core.attestation.appraisal import Appraisal
from otr_core.attestation.bundle import MAX_FILE_BYTES
from otr_core.attestation.snp import SnpCertificates
from otr_core.errors import EvidenceError
from otr_node.evidence.export import flat_input, result_claims
from otr_node.evidence.intake import MAX_NODES, MAX_TOKENS, read_evidence
from otr_node.evidence.outcome import Judgement
from otr_node.evidence.pieces import MAX_LEVELS, MAX_PIECES, MAX_VALUES, Found, PieceReader, Use
from otr_node.evidence.tokens import Token, read_token, relay

Outside = Callable[[str], bytes]
NOTHING = "nothing in it is evidence"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def read(data: Any) -> tuple[Found, list[Use]]:
    """What stands in one file, given as bytes or as a document, and what was left aside."""
    ignored = list[Use]()
    found = PieceReader(ignored).file("f", data if isinstance(data, bytes) else json.dumps(data).encode())
    return found, ignored


def kinds(data: Any) -> list[str]:
    found, _ = read(data)
    return [one.kind for one in found.pieces] + ["device"] * len(found.devices)


class TestWhatBytesAre:
    @pytest.fixture(scope="class")
    def quote(self, outside: Outside) -> bytes:
        return outside("phala-dcap-qvl/tdx_quote")

    @pytest.fixture(scope="class")
    def contained(self, quote: bytes) -> bytes:
        """The quote in dstack's binary form."""
        return b"\0\0" + (len(quote) << 2 | 1).to_bytes(2, "little") + quote

    def test_a_file_of_nothing_is_told_once(self, h100_files: dict[str, Any]) -> None:
        assert [use.use for use in read(b"\xff" * 20)[1]] == [NOTHING]
        broken = read(h100_files["rims"][0].replace(b"colloquialVersion", b"colloquial"))[1]
        assert [use.use[:15] for use in broken] == ["unreadable: RIM"]
        assert read({"nonce": "ab" * 32})[1] == []

    def test_a_quote_is_told_by_its_head_and_size(self, quote: bytes) -> None:
        assert kinds(quote) == ["quote"]
        assert kinds(quote[:400]) == []
        assert kinds(b"\xff" + quote[1:]) == []
        with pytest.raises(EvidenceError, match="quote"):
            read(quote[:401])

    def test_dstacks_own_form_is_told_by_four_signs(self, quote: bytes, contained: bytes, h100_report: bytes) -> None:
        assert kinds(contained) == ["quote"]
        for at, value in ((0, 1), (1, 1), (2, contained[2] & ~1)):
            assert kinds(contained[:at] + bytes([value]) + contained[at + 1 :]) == []
        short = b"\0\0" + (450 << 2 | 1).to_bytes(2, "little") + quote[:450]
        assert kinds(short) == []
        for inside in (b"\xff" * 700, h100_report):
            assert kinds(b"\0\0" + (len(inside) << 2 | 1).to_bytes(2, "little") + inside) == []

    def test_levels_are_bounded_in_each_wrapping(self) -> None:
        packed: bytes = b"x" * 300
        for _ in range(MAX_LEVELS + 1):
            packed = gzip.compress(packed)
        lists, objects = "[" * 45 + "]" * 45, '{"a":' * 45 + "1" + "}" * 45
        for data in (packed, lists.encode(), objects.encode()):
            with pytest.raises(EvidenceError, match=f"f at .*more than {MAX_LEVELS} levels of nesting"):
                read(data)

    def test_texts_of_evidence(self, h100_report: bytes, h100_chain: bytes, outside: Outside) -> None:
        assert kinds(b"0x" + h100_report.hex().encode()) == ["gpu"]  # begins like DER
        assert kinds(h100_report[:100].hex().encode()) == []  # too short for a report
        assert kinds(base64.b64encode(h100_report)) == ["gpu"]
        assert kinds(b"A" * 261) == []  # no base64 has four letters and one
        assert kinds(h100_chain) == ["certificates"]
        assert kinds(h100_chain.replace(b" ", b"%20")) == ["certificates"]
        assert kinds(b"<html></html>" + bytes(600)) == []
        assert kinds(outside("google-go-tdx-guest/ccel_data.dat").rstrip(b"\xff")) == ["event log"]
        assert kinds(b"eyJ9.eyJ9.AA") == ["token"]

    def test_reports_of_amd_and_responses(self, outside: Outside, h100_ocsp: dict[str, bytes]) -> None:
        assert kinds(outside("google-go-sev-guest/attestation.bin")) == ["quote"]
        assert {kind for one in h100_ocsp.values() for kind in kinds(base64.b64decode(one))} == {"OCSP response"}

    def test_what_gzip_holds_is_bounded(self) -> None:
        with pytest.raises(EvidenceError, match=f"over {MAX_FILE_BYTES} bytes in gzip"):
            read(gzip.compress(bytes(MAX_FILE_BYTES + 1)))
        with pytest.raises(EvidenceError, match=r"^f: found"):
            read(bytes(MAX_FILE_BYTES + 1))

    def test_der_is_told_from_bytes_that_begin_like_it(self, h100_chain: bytes, h100_report: bytes) -> None:
        der = x509.load_pem_x509_certificates(h100_chain)[0].public_bytes(Encoding.DER)
        assert kinds(der) == ["certificates"]
        assert [use.use for use in read(b"\x30\x82\x01\x00" + b"\xff" * 256)[1]] == [NOTHING]
        named = json.dumps({"é": h100_report.hex()}, ensure_ascii=False).encode()
        assert kinds(named) == ["gpu"]

    def test_certificates_of_amd_are_of_their_own_kind(self, outside: Outside, h100_chain: bytes) -> None:
        der = outside("google-go-sev-guest/vcek.testcer")
        pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
        assert kinds(der) == kinds(pem) == ["AMD certificates"]
        cut = read(h100_chain[:200])
        assert cut[0].pieces == []
        assert [use.use.partition(":")[0] for use in cut[1]] == ["unreadable"]

    def test_one_manifest_in_two_files_is_one(self, h100_files: dict[str, Any]) -> None:
        files = [("g", h100_files["gpu"][0]), ("c", h100_files["gpu_certs"][0])]
        rims = [(name, h100_files["rims"][0]) for name in "ab"]
        assert len(read_evidence([*files, *rims]).nodes[0].bundle.rims) == 1

    def test_side_pieces_alone_are_told_as_such(self, h100_files: dict[str, Any]) -> None:
        chain, rim = h100_files["gpu_certs"][0], h100_files["rims"][0]
        for files, said in (
            ([("c", chain)], "c: found certificates alone"),
            ([("r", rim), ("c", chain)], "r: found reference manifest, certificates alone"),
            ([("x", b"A licence, in English.")], f"x: found text, {NOTHING}"),
        ):
            with pytest.raises(EvidenceError) as caught:
                read_evidence(files)
            assert str(caught.value) == f"{said}; expected a quote or a report"


class TestJson:
    def test_texts_that_only_begin_like_json_are_texts(self) -> None:
        assert kinds({"a": "{no JSON" + "x" * 300}) == []
        with pytest.raises(EvidenceError, match="JSON"):
            read(b'{"a": ')

    def test_counts_are_bounded(self) -> None:
        with pytest.raises(EvidenceError, match=f"more than {MAX_VALUES} objects"):
            read(b"[" + b"{}," * MAX_VALUES + b"{}]")
        logs = [[{"imr": 0, "event_type": 0}]] * (MAX_PIECES + 1)
        with pytest.raises(EvidenceError, match=f"more than {MAX_PIECES} pieces"):
            read(logs)

    def test_compose_files_and_event_logs_are_told_by_their_members(self) -> None:
        assert kinds({"docker_compose_file": "x"}) == ["compose"]
        assert kinds(["docker_compose_file"]) == kinds({"compose": "x"}) == []
        event = {"imr": 3, "event_type": 1, "digest": "00" * 48, "event": "app-id", "event_payload": ""}
        assert kinds([event]) == ["event log"] or read([event])[1][0].what == "event log"
        assert read([{"imr": 3}])[1][0].use == read(["imr", "event_type"])[1][0].use == NOTHING

    def test_lists_of_bytes_are_long_and_of_numbers(self, h100_report: bytes) -> None:
        assert kinds(list(h100_report)) == ["gpu"]
        assert kinds(list(h100_report[:100])) == []
        assert kinds([300] * 300) == []

    def test_parts_of_collateral(self) -> None:
        assert kinds({"tcbInfo": {"a": 1}, "signature": "ab"}) == ["tcb_info"]
        assert kinds({"enclaveIdentity": {}, "signature": "ab"}) == ["qe_identity"]
        assert kinds({"tcbInfo": "a", "signature": "ab"}) == kinds({"tcbInfo": {}, "signature": 1}) == []
        whole = {"tcb_info": "", "qe_identity": "", "pck_crl": ""}
        assert read(whole)[1][0].what == "collateral"
        for name in whole:
            assert read({key: value for key, value in whole.items() if key != name})[1][0].use == NOTHING

    def test_keys_are_objects_with_a_type(self) -> None:
        assert kinds({"keys": [{"kty": "EC"}]}) == ["keys"]
        for other in ("kty", [{"alg": "x"}], ["kty"]):
            assert kinds({"keys": other}) == []

    def test_nonces_keys_and_digests_are_noted(self) -> None:
        assert read({"nonce": "ab" * 32})[0].nonces == [b"\xab" * 32]
        assert read({"nonce": b64(b"\xab" * 32)})[0].nonces == [b"\xab" * 32]
        assert read({"nonce": "zz"})[0].nonces == read({"nonce": 5})[0].nonces == []
        assert read({"pubkey": "x"})[0].words == ["x"]
        assert read({"pubkey": "x" * 4097})[0].words == read({"other": "x"})[0].words == []
        for count in range(1, 10):
            digests = {str(at): f"{at:064x}" for at in range(count)}
            assert bool(read(digests)[0].preimages) == (2 <= count <= 8)
            assert not read(digests | {"more": 1})[0].preimages

    def test_devices_are_reports_with_as_many_chains(self, h100_report: bytes, h100_chain: bytes) -> None:
        report, chain, other = h100_report.hex(), h100_chain.decode(), (h100_report[:-1] + b"\0").hex()
        assert kinds({"a": report}) == ["gpu"]
        assert kinds({"a": report, "b": chain}) == ["device"]
        assert kinds({"a": report, "b": other, "c": chain}) == ["gpu", "gpu", "certificates"]
        assert kinds({"a": report, "b": other, "c": chain, "d": chain}) == ["device", "device"]

    def test_a_certificate_of_a_host_is_no_devices(self, h100_report: bytes) -> None:
        """On another curve, or with a name on the Internet: it stays beside the report."""
        for curve, host in ((ec.SECP256R1(), False), (ec.SECP384R1(), True), (ec.SECP384R1(), False)):
            key, name = ec.generate_private_key(curve), x509.Name([])
            made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            made = made.serial_number(1).not_valid_before(NOW).not_valid_after(NOW)
            if host:
                made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("a.example")]), critical=False)
            pem = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
            found = kinds({"a": h100_report.hex(), "b": pem})
            assert found == (["gpu", "certificates"] if host or curve.name == "secp256r1" else ["device"])


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class TestTokens:
    @pytest.fixture(scope="class")
    def key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65537, 2048)

    @pytest.fixture(scope="class")
    def jwk(self, key: rsa.RSAPrivateKey) -> dict[str, str]:
        public = key.public_key().public_numbers()
        return {"kty": "RSA", "kid": "k", "n": number(public.n), "e": number(public.e)}

    def signed(self, key: rsa.RSAPrivateKey, claims: Any, algorithm: str = "PS384") -> str:
        text = ".".join(b64(json.dumps(part).encode()) for part in ({"alg": algorithm, "kid": "k"}, claims))
        scheme = padding.PSS(padding.MGF1(hashes.SHA384()), 48)
        return f"{text}.{b64(key.sign(text.encode(), scheme, hashes.SHA384()))}"

    @pytest.mark.parametrize("text", ["e30.e30.", "e30.e30", "e30.e30.AA.AA", "W10.e30.AA", "e30.e30." + "A" * 70_000])
    def test_a_token_is_three_parts_of_bounded_length(self, text: str) -> None:
        if text == "e30.e30.":
            assert read_token(text, [], NOW).problem is not None
        else:
            with pytest.raises(EvidenceError, match="token: found"):
                read_token(text, [], NOW)

    def test_claims_are_an_object(self, key: rsa.RSAPrivateKey) -> None:
        with pytest.raises(EvidenceError, match="expected JSON objects"):
            read_token(self.signed(key, []), [], NOW)

    def test_of_two_keys_of_one_name_either_may_have_signed(self, key: rsa.RSAPrivateKey, jwk: dict[str, str]) -> None:
        text, other = self.signed(key, {}), jwk | {"n": number(2**2047 + 1)}
        assert read_token(text, [jwk, other], NOW).problem is None
        assert read_token(text, [other, jwk], NOW).problem is None
        assert read_token(text, [other, other, jwk], NOW).problem is not None  # no more than two are tried
        assert read_token(text, [jwk | {"kid": "j"}], NOW).problem == "no key of its issuer is in the files"

    def test_the_algorithm_goes_with_the_key(self, key: rsa.RSAPrivateKey, jwk: dict[str, str]) -> None:
        curve = {"kty": "EC", "kid": "k", "crv": "P-256", "x": "AQ", "y": "AQ"}
        for algorithm, given in (
            ("XX384", jwk),
            ("PS999", jwk),
            ("PS384", jwk | {"kty": "EC"}),
            ("ES384", curve),
            ("ES256", jwk),
        ):
            problem = read_token(self.signed(key, {}, algorithm), [given], NOW).problem
            assert problem == f"algorithm {algorithm} does not go with the key it names"
        assert "cannot be read" in str(read_token(self.signed(key, {}, "ES256"), [curve], NOW).problem)

    @pytest.mark.parametrize(
        ("claims", "problem"),
        [
            ({"iat": 2_000_000_000}, "it is from the future"),
            ({"nbf": 2_000_000_000, "iat": 0}, "it is from the future"),
            ({"exp": 1}, "it has expired"),
            ({"nbf": "soon", "exp": "late"}, None),
            ({"nbf": 1, "exp": 2_000_000_000}, None),
        ],
    )
    def test_dates(
        self, key: rsa.RSAPrivateKey, jwk: dict[str, str], claims: dict[str, Any], problem: str | None
    ) -> None:
        assert read_token(self.signed(key, claims), [jwk], NOW).problem == problem


def test_one_rejected_node_rejects_them_all(h100: Bundle, h100_files: dict[str, Any], h100_report: bytes) -> None:
    """In the verdict, the document, the token and the flat document, whichever node stands first."""
    policy, when = Policy.default().expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC)
    forged = h100_report[:-1] + bytes([h100_report[-1] ^ 1])
    pair = [appraise(one, policy, when) for one in (h100, load_bundle(**{**h100_files, "gpu": [forged]}))]
    assert [one.accepted for one in pair] == [True, False]
    for nodes in (pair, pair[::-1]):
        outcome = Judgement({"a": nodes[0], "b": nodes[1]}, (), (), ())
        assert not outcome.accepted
        assert outcome.document()["verdict"] == "rejected"
        assert result_claims(nodes)["ear.status"] == "contraindicated"
        flat = flat_input(nodes)
        assert not flat["accepted"]
        assert flat["checks"]["gpu.signature"] == "refuted"
        assert {"gpu.signature"} <= {*flat["refuted"]} & {*flat["asserted"]}
    assert Judgement({"a": pair[0], "b": pair[0]}, (), (), ()).accepted


class TestRelay:
    @pytest.fixture(scope="class")
    def result(self, h100: Bundle) -> Appraisal:
        return appraise(h100, Policy.default().expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC))

    def outcomes(self, result: Appraisal, **claims: Any) -> dict[str, str]:
        facts = result.devices[0].facts
        token = Token("t", "NRAS", "i", {"ueid": facts["ueid"], "eat_nonce": facts["nonce"], **claims}, None)
        return {row.claim: row.outcome for row in relay([token], result) if row.claim != "token"}

    def test_a_token_on_the_same_report_is_compared(self, result: Appraisal) -> None:
        signed = "x-nvidia-gpu-attestation-report-signature-verified"
        name = signed.removeprefix("x-nvidia-gpu-")
        assert self.outcomes(result, **{signed: True}) == {name: "agrees"}
        assert self.outcomes(result, **{signed: False}) == {name: "disagrees"}
        assert self.outcomes(result, **{signed: "true"}) == {}
        for other in ({"ueid": "1"}, {"eat_nonce": "00" * 32}):
            assert self.outcomes(result, **{signed: True, **other}) == {}
        fresh = "x-nvidia-gpu-attestation-report-nonce-match"
        assert self.outcomes(result, **{fresh: True}) == {fresh.removeprefix("x-nvidia-gpu-"): "not compared"}

    def test_measurements_and_a_refuted_claim(self, result: Appraisal, h100: Bundle) -> None:
        assert self.outcomes(result, measres="success") == {"measres": "agrees"}
        assert self.outcomes(result, measres="fail") == {"measres": "disagrees"}
        late = appraise(h100, result.policy, datetime(2060, 1, 1, tzinfo=UTC))
        chain = "x-nvidia-gpu-driver-rim-cert-validated"
        short = chain.removeprefix("x-nvidia-gpu-")
        assert self.outcomes(late, **{chain: True}) == {short: "disagrees"}
        assert self.outcomes(late, **{chain: False}) == {short: "agrees"}

    @pytest.mark.parametrize("part", [5, [1], ["x", 5], ["x", [1]], ["x", 5, 6], [5, [1, 2], 6], "ab"])
    def test_submodules_of_another_form_name_no_token(self, result: Appraisal, part: Any) -> None:
        facts, claims = result.devices[0].facts, {"measres": "success"}
        device = Token("t", "NRAS", "i", {"ueid": facts["ueid"], "eat_nonce": facts["nonce"], **claims}, None)
        for said, good in (([["DIGEST", ["SHA-256", device.sha256]]], True), ([part], False)):
            whole = Token("w", "NRAS", "i", {"submods": {str(at): one for at, one in enumerate(said)}}, None)
            (row,) = [one for one in relay([whole, device], result) if one.claim == "token"]
            assert (row.outcome == "agrees") == good


class TestRelayOfIntel:
    @pytest.fixture(scope="class")
    def result(self, outside: Outside) -> Appraisal:
        files = [outside(f"phala-dcap-qvl/tdx_quote{end}") for end in ("", "_collateral.json")]
        bundle = load_bundle(quote=files[0], collateral=files[1])
        return appraise(bundle, Policy.default().expecting("tdx"), datetime(2025, 6, 20, tzinfo=UTC))

    def rows(self, result: Appraisal, claims: Any) -> list[str]:
        token = Token("t", "Intel Trust Authority", "i", claims, None)
        return [f"{row.claim} {row.outcome}" for row in relay([token], result)]

    def test_each_claim_is_compared_where_it_is_made(self, result: Appraisal, h100: Bundle) -> None:
        measured = dict((result.cpu or {})["measured"])
        said = {"tdx_report_data": measured["report_data"], "tdx_mrtd": measured["mr_td"]}
        assert self.rows(result, said) == ["token agrees", "mrtd agrees"]
        assert self.rows(result, {"tdx": said}) == ["token agrees", "mrtd agrees"]
        debug = "tdx_is_debuggable"
        assert self.rows(result, said | {debug: False})[2:] == [f"{debug} (denied) agrees"]
        assert self.rows(result, said | {debug: "no"})[2:] == []
        assert self.rows(result, said | {"tdx_report_data": "00"}) == self.rows(result, {"tdx": ["none"]}) == []
        alone = appraise(h100, Policy.default().expecting("gpu"), datetime(2025, 1, 15, tzinfo=UTC))
        assert self.rows(alone, {"tdx_mrtd": "00"}) == []


class TestIntake:
    def test_devices_beside_two_quotes_are_a_node_of_their_own(
        self, h100_report: bytes, h100_chain: bytes, outside: Outside
    ) -> None:
        report, chain = h100_report.hex(), h100_chain.decode()
        quotes = [(name, outside(f"phala-dcap-qvl/{name}")) for name in ("tdx_quote", "sgx_quote")]
        assert [len(node.bundle.devices) for node in read_evidence(quotes).nodes] == [0, 0]
        for beside in ({"a": report, "b": chain}, {"a": report}):
            nodes = read_evidence([*quotes, ("r", json.dumps(beside).encode())]).nodes
            assert [len(node.bundle.devices) for node in nodes] == [0, 0, 1]
            assert bool(nodes[2].bundle.devices[0].chain) == ("b" in beside)

    def test_certificates_of_amd_go_with_a_report_of_amd(self, outside: Outside) -> None:
        files = [(name, outside(f"google-go-sev-guest/{name}")) for name in ("attestation.bin", "vcek.testcer")]
        assert isinstance(read_evidence(files).nodes[0].bundle.collateral, SnpCertificates)

    def test_counts_of_nodes_and_tokens_are_bounded(self, outside: Outside, h100_report: bytes) -> None:
        texts = {str(at): f"eyJ9.eyJ9.{'A' * 300}{at:04}" for at in range(MAX_TOKENS + 1)}
        with pytest.raises(EvidenceError, match=f"tokens, expected at most {MAX_TOKENS}"):
            read_evidence([("r", json.dumps({"a": h100_report.hex(), **texts}).encode())])
        quote = outside("phala-dcap-qvl/tdx_quote")
        many = [(quote[:600] + at.to_bytes(2, "big") + quote[602:]) for at in range(MAX_NODES + 1)]
        with pytest.raises(EvidenceError, match=f"quotes, expected at most {MAX_NODES}"):
            read_evidence([(str(at), one) for at, one in enumerate(many)])

    def test_what_the_caller_leaves_empty_takes_no_parts_place(
        self, h100_report: bytes, h100_chain: bytes, outside: Outside
    ) -> None:
        files = [("r", json.dumps({"a": h100_report.hex(), "b": h100_chain.decode()}).encode())]
        found = read_evidence(files, beside={"compose": b"", "rims": [], "gpu_certs": []})
        assert found.nodes[0].bundle.compose is None
        quote = outside("phala-dcap-qvl/tdx_quote")
        both = [("q", quote), ("c", json.dumps({"docker_compose_file": "x"}).encode())]
        taken = read_evidence(both, beside={"compose": b""}).nodes[0].bundle.compose
        assert taken == both[1][1]
        assert read_evidence(both, beside={"compose": b"mine"}).nodes[0].bundle.compose == b"mine"

    def test_a_bare_report_beside_nodes_is_a_node(
        self, h100_report: bytes, h100_chain: bytes, outside: Outside
    ) -> None:
        assert len(read_evidence([("r", h100_report)]).nodes) == 1
        with pytest.raises(EvidenceError, match="found certificates alone"):
            read_evidence([("c", h100_chain)])
