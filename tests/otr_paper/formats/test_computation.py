"""Computation Receipts: the published vectors, refusals among them, and forged manifests."""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from otr_core.errors import ReceiptError
from otr_paper.formats.computation import (
    MOST_SAMPLED,
    VERDICTS,
    chain_digest,
    check_computation_chain,
    check_computation_receipt,
    computation_canonical,
    computation_digest,
    read_computation_receipt,
    sample_indices,
    tensor_digest,
    tensors_digest,
)
from tests.helpers.foreign import ARITHMETIC, INPUTS, OUTPUT, certified, chain, manifest_of, sampled

Vectors = dict[str, dict[str, Any]]

A, B, C = np.arange(6.0).reshape(2, 3), np.arange(4, dtype=np.int32), np.arange(-3, 3, dtype=np.int8)
"""The arrays behind the published digests: their values are in the format's reference
implementation (``python/cr/receipt.py``), the vectors name only types and shapes."""


def refused(check: str, told: str, call: Callable[[], object], verdict: str = "MALFORMED") -> None:
    """The call is refused by this check, with this verdict, in one line that has ``told`` in it."""
    with pytest.raises(ReceiptError) as caught:
        call()
    assert caught.value.check == check, str(caught.value)
    assert VERDICTS.get(check, "MALFORMED") == verdict
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 500


REFUSALS = {
    "refuse/profile-contradicts-registry": "profile",
    "refuse/sample-space-shrunk": "sample",
    "refuse/unknown-profile-not-accepted": "profile-known",
    "refuse/output-digest-missing": "field",
    "refuse/cross-version-section": "sections",
}
"""Check by which each published refusal is refused."""


class TestVectors:
    @pytest.fixture
    def vectors(self, outside_file: Callable[[str], Path]) -> Vectors:
        raw = outside_file("vectors/computation-receipts/CR-v0.1-conformance-vectors.json").read_text("utf-8")
        found = {vector["name"]: vector for vector in json.loads(raw)}
        assert len(found) == 17
        return found

    def test_canonical_form(self, vectors: Vectors) -> None:
        named = [vector for name, vector in vectors.items() if name.startswith("canonical/")]
        assert len(named) == 4
        for vector in named:
            raw = computation_canonical(vector["input"])
            assert raw.decode() == vector["canonical"]
            assert computation_digest(raw) == vector["digest"]

    def test_tensors(self, vectors: Vectors) -> None:
        assert tensor_digest(A) == vectors["tensor/float64-2x3"]["digest"]
        assert tensor_digest(B) == vectors["tensor/int32-4"]["digest"]
        assert tensor_digest(C) == vectors["tensor/int8-6"]["digest"]
        assert tensors_digest({"w2": B, "w1": A}) == vectors["tensors/named-order-independent"]["digest"]
        assert tensors_digest({"w1": A, "w2": B}) == tensors_digest({"w2": B, "w1": A})
        # the same numbers stored otherwise
        assert tensor_digest(A.astype(">f8")) == tensor_digest(np.asfortranarray(A)) == tensor_digest(A)

    @pytest.mark.parametrize("name", ["receipt/exact-profile", "receipt/sampled", "receipt/chunk-0"])
    def test_receipts(self, vectors: Vectors, name: str) -> None:
        vector = vectors[name]
        manifest, certificate = read_computation_receipt(raw_of(vector))
        assert certificate == vector["certificate"]
        assert computation_canonical(manifest).decode() == vector["manifest_canonical"]
        output = np.arange(64.0).reshape(16, 4)
        if "sample_indices" in vector:
            assert sample_indices(manifest) == vector["sample_indices"]
            check_computation_receipt(raw_of(vector), manifest, output[vector["sample_indices"]])
            wrong = lambda: check_computation_receipt(raw_of(vector), manifest, output[:4])  # noqa: E731
            refused("recomputation", "sample", wrong, "REJECT")
        else:
            check_computation_receipt(raw_of(vector), manifest)
        if "chain_digest" in vector:
            assert chain_digest([certificate]) == vector["chain_digest"]

    def test_chain(self, vectors: Vectors) -> None:
        """The closing vector ends a chain of chunk 0 and one that follows from it."""
        first, closing = vectors["receipt/chunk-0"], vectors["chain/closing-2chunk"]
        manifests = [json.loads(first["manifest_canonical"])]
        manifests += [
            {**manifests[0], "chunk": {"index": 1, "closing": False, "prev_certificate": first["certificate"]}}
        ]
        raws = [certified(manifest) for manifest in manifests]
        certificates = [json.loads(raw)["certificate"] for raw in raws]
        assert chain_digest(certificates) == closing["chain_digest"]
        check_computation_chain([*raws, raw_of(closing)], manifests)
        assert read_computation_receipt(raw_of(closing))[1] == closing["certificate"]

    def test_every_refusal_has_its_check(self, vectors: Vectors) -> None:
        assert {name for name in vectors if name.startswith("refuse/")} == set(REFUSALS)

    @pytest.mark.parametrize("name", REFUSALS)
    def test_refusals(self, vectors: Vectors, name: str) -> None:
        """Refused though the verifier's own computation says the very same, and for one reason: the
        certificate of each is the digest of its manifest."""
        vector = vectors[name]
        own = json.loads(vector["manifest_canonical"])
        assert computation_digest(computation_canonical(own)) == vector["certificate"]
        refused(REFUSALS[name], "", lambda: check_computation_receipt(raw_of(vector), own), vector["expect_verdict"])


def raw_of(vector: dict[str, Any]) -> bytes:
    """The receipt of a vector, in an encoding that is not the canonical one."""
    document = {"certificate": vector["certificate"], "manifest": json.loads(vector["manifest_canonical"]), "meta": {}}
    return json.dumps(document, indent=1).encode()


OWN = manifest_of()


def read(change: Callable[[dict[str, Any]], object], base: dict[str, Any] = OWN) -> Callable[[], object]:
    """Read the receipt of a changed manifest, certified by who changed it."""
    manifest = copy.deepcopy(base)
    change(manifest)
    return lambda: read_computation_receipt(certified(manifest))


def test_what_is_computed_again_is_accepted() -> None:
    check_computation_receipt(certified(OWN), OWN)
    check_computation_receipt(certified(OWN, meta={"host": "anywhere"}), OWN)
    own = {**OWN, "computation": {**OWN["computation"], "graph_digest": "sha256:" + "0" * 64}}
    check_computation_receipt(certified(own), own)
    for profile, more in (("bposit16-quire256-b48", 48), ("bposit16-quire256-b112", 112)):
        params = {**ARITHMETIC["params"], "regime_bound": more}
        own = manifest_of(arithmetic={**ARITHMETIC, "profile": profile, "params": params})
        check_computation_receipt(certified(own), own)


def test_sha512_is_taken_everywhere_or_nowhere() -> None:
    def digests(alg: str) -> dict[str, Any]:
        parts = {"model": {"digest": tensors_digest({}, alg), "n_tensors": 0}}
        parts |= {"input": {"digest": tensors_digest(INPUTS, alg), "n_tensors": 1}}
        return parts | {"output": {"digest": tensor_digest(OUTPUT, alg), "shape": [16, 4]}}

    own = {**OWN, "digest_alg": "sha512", **digests("sha512")}
    check_computation_receipt(certified(own), own)
    assert (
        tensor_digest(B, "sha512")
        == "sha512:" + hashlib.sha512(b'{"dtype":"i4","shape":[4]}' + B.tobytes()).hexdigest()
    )
    refused("field", "manifest.model.digest", read(lambda m: m.update(digest_alg="sha512")))
    refused("field", "digest_alg", read(lambda m: m.update(digest_alg="md5")))
    refused("field", "digest_alg md5", lambda: computation_digest(b"", "md5"))


@pytest.mark.parametrize("name", ["model", "input", "computation", "arithmetic", "output"])
def test_another_computation_is_rejected(name: str) -> None:
    others = {
        "model": {"model": {"w": np.ones((2, 4), np.int8)}},
        "input": {"inputs": {"x": B[::-1]}},
        "computation": {"computation": {"id": "test", "version": "2"}},
        "arithmetic": {
            "arithmetic": {
                **ARITHMETIC,
                "profile": "bposit16-quire256-b48",
                "params": {**ARITHMETIC["params"], "regime_bound": 48},
            }
        },
        "output": {"output": OUTPUT + 1},
    }
    claimed = certified(manifest_of(**others[name]))
    refused("recomputation", f"manifest.{name}", lambda: check_computation_receipt(claimed, OWN), "REJECT")


def test_members_that_nobody_reads_are_under_the_certificate() -> None:
    more = certified({**OWN, "more": 1})
    refused("recomputation", "certificate", lambda: check_computation_receipt(more, OWN), "REJECT")
    document = json.loads(certified(OWN))
    document["manifest"]["more"] = 1
    refused("certificate", "sha256:", lambda: read_computation_receipt(json.dumps(document).encode()))
    other = {**json.loads(certified(OWN)), "certificate": json.loads(more)["certificate"]}
    refused("certificate", "sha256:", lambda: read_computation_receipt(json.dumps(other).encode()))


def test_rounded_arithmetic_has_no_verdict_even_where_outputs_agree() -> None:
    own = manifest_of(
        arithmetic={"profile": "float32", "accumulation": "rounded", "order_independent": False, "params": {"bits": 32}}
    )
    read_computation_receipt(certified(own))
    for mine in (own, OWN):
        call = lambda mine=mine: check_computation_receipt(certified(own), mine)  # noqa: E731
        refused("order-independent", "False", call, "UNVERIFIABLE")


@pytest.mark.parametrize(
    "change",
    [
        {"accumulation": "rounded"},
        {"order_independent": False},
        {"params": {}},
        {"params": {**ARITHMETIC["params"], "es": 2}},
        {"params": {**ARITHMETIC["params"], "n": True}},
        {"profile": "float64"},
        {"profile": "bposit16-quire256-b48"},
    ],
    ids=str,
)
def test_the_registry_is_above_the_receipt(change: dict[str, Any]) -> None:
    refused("profile", "manifest.arithmetic", read(lambda m: m["arithmetic"].update(change)))


def test_each_member_is_required_and_of_its_kind() -> None:
    refused("sections", "sample", read(lambda m: m.update(cr="0.1.1")))
    for version in ("0.2", "0.1.3", "", "aci/1"):
        refused("version", "manifest.cr", read(lambda m, version=version: m.update(cr=version)))
    for name in OWN:
        for wrong in (None, 5, [], "x"):
            if wrong != "x" or name not in ("cr", "digest_alg"):
                refused("field", f"manifest.{name}", read(lambda m, name=name, wrong=wrong: m.update({name: wrong})))
        refused("field", f"manifest.{name} absent", read(lambda m, name=name: m.pop(name)))
    for section in ("model", "input", "output", "computation", "arithmetic"):
        for name in OWN[section]:
            told = f"manifest.{section}.{name}"
            refused("field", f"{told} absent", read(lambda m, s=section, name=name: m[s].pop(name)))
            refused("field", told, read(lambda m, s=section, name=name: m[s].update({name: None})))
    for digest in ("sha256:" + "A" * 64, "a" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 128):
        refused("field", "manifest.output.digest", read(lambda m, digest=digest: m["output"].update(digest=digest)))
    for shape in ([], [True], [-1], ["16"], [[16]], [None]):
        refused("field", "manifest.output.shape", read(lambda m, shape=shape: m["output"].update(shape=shape)))
    refused("field", "n_tensors", read(lambda m: m["model"].update(n_tensors=True)))
    refused("field", "order_independent", read(lambda m: m["arithmetic"].update(order_independent=1)))
    document = json.loads(certified(OWN))
    for name in ("manifest", "certificate"):
        part = {key: value for key, value in document.items() if key != name}
        refused("field", f"receipt.{name}", lambda part=part: read_computation_receipt(json.dumps(part).encode()))
    bad = json.dumps({**document, "meta": "x"}).encode()
    refused("field", "receipt.meta", lambda: read_computation_receipt(bad))


@pytest.mark.parametrize(
    ("raw", "check", "told", "verdict"),
    [
        (b"", "document", "receipt", "MALFORMED"),
        (b"x", "document", "receipt", "MALFORMED"),
        (b"[]", "document", "list", "MALFORMED"),
        (b'{"manifest":{"a":1.0}}', "document", "receipt.manifest.a 1.0", "MALFORMED"),
        (b'{"manifest":{"a":-0.0}}', "document", "receipt.manifest.a", "MALFORMED"),
        (b'{"manifest":{"a":"\\ud800"}}', "document", "receipt.manifest.a", "MALFORMED"),
        (b'{"manifest":{},"manifest":{}}', "document", "'manifest' found twice", "MALFORMED"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "document", "levels", "MALFORMED"),
        (b'"' + b"x" * 10**8 + b'"', "size", "100000002 bytes", "UNVERIFIABLE"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bytes_that_are_no_receipt(raw: bytes, check: str, told: str, verdict: str) -> None:
    begin = time.process_time()
    refused(check, told, lambda: read_computation_receipt(raw), verdict)
    assert time.process_time() - begin < 1


def test_canonical_order_is_by_code_point() -> None:
    """Where RFC 8785 would sort by UTF-16 unit; and integers have no bound."""
    assert computation_canonical({"\U0001f600": 1, "\ufb33": 2**70}) == (
        '{"\ufb33":1180591620717411303424,"\U0001f600":1}'.encode()
    )
    assert read(lambda m: m.update(more={"\U0001f600": 1, "\ufb33": 2**70}))()


def test_arrays_without_numbers_are_refused() -> None:
    for array in (np.array(["a"]), np.array([None]), np.zeros(2, dtype="i4,i4"), np.zeros(2, dtype="M8[s]")):
        refused("field", "array of", lambda array=array: tensor_digest(array))
    assert tensors_digest({}) == "sha256:" + hashlib.sha256(b"").hexdigest()
    assert tensors_digest({"ab": B, "c": B}) != tensors_digest({"a": B, "bc": B})


def own_rows(manifest: dict[str, Any]) -> np.ndarray:
    return OUTPUT[sample_indices(manifest)]


def test_samples() -> None:
    good = sampled(own_rows)
    own = {name: part for name, part in good.items() if name in ("model", "input", "computation", "arithmetic")}
    check_computation_receipt(certified(good), own, own_rows(good))
    refused("recomputation", "no rows", lambda: check_computation_receipt(certified(good), own), "REJECT")
    few = lambda: check_computation_receipt(certified(good), own, own_rows(good)[:3])  # noqa: E731
    refused("recomputation", "manifest.sample.digest", few, "REJECT")
    # Rows that the prover chose: the verifier draws its own.
    chosen = sampled(lambda m: OUTPUT[:4])
    assert sample_indices(chosen) != [0, 1, 2, 3]
    call = lambda: check_computation_receipt(certified(chosen), own, own_rows(chosen))  # noqa: E731
    refused("recomputation", "manifest.sample.digest", call, "REJECT")
    other_model = {**own, "model": manifest_of(model={})["model"]}
    call = lambda: check_computation_receipt(certified(good), other_model, own_rows(good))  # noqa: E731
    refused("recomputation", "manifest.model", call, "REJECT")
    # Every member of the manifest and the challenge move the sample.
    drawn = {tuple(sample_indices(sampled(own_rows, **change))) for change in MOVES}
    assert len(drawn) == len(MOVES)


MOVES: list[dict[str, Any]] = [
    {},
    {"sample": {"challenge": "beee"}},
    {"sample": {"challenge": ""}},
    {"output": OUTPUT + 1},
    {"computation": {"id": "test", "version": "2"}},
]


@pytest.mark.parametrize(
    ("change", "check", "told"),
    [
        ({"rule": "first-n"}, "sample", "rule"),
        ({"n_units": 4}, "sample", "n_units"),
        ({"n_units": 17}, "sample", "n_units"),
        ({"size": 0}, "sample", "size"),
        ({"size": 17}, "sample", "size"),
        ({"size": -1}, "sample", "size"),
        ({"size": True}, "field", "size"),
        ({"challenge": "be e"}, "field", "challenge"),
        ({"challenge": "BEEF"}, "field", "challenge"),
        ({"challenge": "bee"}, "field", "challenge"),
        ({"challenge": None}, "field", "challenge"),
        ({"digest": ""}, "field", "digest"),
    ],
    ids=str,
)
def test_samples_that_bind_nothing(change: dict[str, Any], check: str, told: str) -> None:
    refused(check, f"manifest.sample.{told}", read(lambda m: m["sample"].update(change), sampled(own_rows)))


def test_drawing_takes_bounded_time() -> None:
    """A sample space beyond 2^64 would have no draw that is not rejected, a large sample many."""

    def of(size: int, units: int) -> dict[str, Any]:
        sample = {"rule": "sha256-ctr-reject-v1", "n_units": units, "size": size, "challenge": ""}
        return manifest_of(cr="0.1.1", sample={**sample, "digest": "sha256:" + "0" * 64}) | {
            "output": {"digest": "sha256:" + "0" * 64, "shape": [units]}
        }

    for size, units in ((MOST_SAMPLED + 1, 10**6), (10**12, 10**12), (1, 2**64 + 1)):
        refused("size", "a sample of", read(lambda m: None, of(size, units)), "UNVERIFIABLE")
    begin = time.process_time()
    for size, units in ((MOST_SAMPLED, MOST_SAMPLED), (1, 2**64), (1, 2**64 - 1), (1, 2**63 + 1)):
        manifest, _ = read_computation_receipt(certified(of(size, units)))
        assert len(sample_indices(manifest)) == size
    assert time.process_time() - begin < 30


def second_opinion(manifest: dict[str, Any]) -> list[int]:
    """The drawing rule as the format's text has it, the list in the order of the draws."""
    base = {name: part for name, part in manifest.items() if name != "sample"}
    sample, drawn = manifest["sample"], []
    seed = hashlib.sha256(computation_canonical(base) + bytes.fromhex(sample["challenge"])).digest()
    for counter in range(10**6):
        word = int.from_bytes(hashlib.sha256(seed + counter.to_bytes(8, "big")).digest()[:8], "big")
        if word >= (2**64 // sample["n_units"]) * sample["n_units"] or word % sample["n_units"] in drawn:
            continue
        drawn.append(word % sample["n_units"])
        if len(drawn) == sample["size"]:
            break
    return sorted(drawn)


def test_draws_are_rejected_above_the_last_whole_multiple() -> None:
    """With 2^63 + 1 units almost half of all draws are rejected, so that the rule shows."""
    for units in (2**63 + 1, 3 * 2**61 + 1, 1000):
        for challenge in ("", "00", "0000"):
            manifest = manifest_of(
                cr="0.1.1", sample={"n_units": units, "size": 5, "challenge": challenge, "rule": "", "digest": ""}
            )
            assert sample_indices(manifest) == second_opinion(manifest)


def test_a_version_has_its_own_section_and_no_other() -> None:
    chunk = {"index": 0, "prev_certificate": "", "closing": False}
    for version, base in (("0.1", OWN), ("0.1.1", sampled(own_rows))):
        refused("sections", f"in a {version}", read(lambda m: m.update(chunk=chunk), base))
    chunked = manifest_of(cr="0.1.2", chunk=chunk)
    sample = sampled(own_rows)["sample"]
    for base in (OWN, chunked):
        refused("sections", "sample", read(lambda m: m.update(sample=sample), base))
    refused("sections", "chunk", read(lambda m: m.pop("chunk"), chunked))
    for wrong in (None, 5, []):
        refused("field", "manifest.chunk", read(lambda m, wrong=wrong: m.update(chunk=wrong), chunked))
        refused("field", "manifest.sample", read(lambda m, wrong=wrong: m.update(sample=wrong), sampled(own_rows)))


DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("chunk", "check", "told"),
    [
        ({"index": 0, "prev_certificate": DIGEST, "closing": False}, "chunk", "index 0"),
        ({"index": 1, "prev_certificate": "", "closing": False}, "chunk", "index 1"),
        ({"index": -1, "prev_certificate": "", "closing": False}, "chunk", "index -1"),
        ({"index": -1, "prev_certificate": DIGEST, "closing": False}, "chunk", "index -1"),
        ({"index": True, "prev_certificate": DIGEST, "closing": False}, "field", "index"),
        ({"index": 1, "prev_certificate": "x", "closing": False}, "field", "prev_certificate"),
        ({"index": 1, "prev_certificate": DIGEST, "closing": 0}, "field", "closing"),
        ({"index": 1, "prev_certificate": DIGEST}, "field", "closing absent"),
        ({"index": 1, "prev_certificate": DIGEST, "closing": True}, "field", "n_chunks"),
        ({"index": 1, "prev_certificate": DIGEST, "closing": True, "n_chunks": 1}, "field", "chain_digest"),
        (
            {"index": 1, "prev_certificate": DIGEST, "closing": True, "n_chunks": 2, "chain_digest": DIGEST},
            "chunk",
            "n_chunks",
        ),
    ],
    ids=str,
)
def test_chunks_that_contradict_themselves(chunk: dict[str, Any], check: str, told: str) -> None:
    refused(check, told, read(lambda m: None, manifest_of(cr="0.1.2", chunk=chunk)))


def test_chains() -> None:
    good = chain()
    own = [json.loads(raw)["manifest"] for raw in good[:-1]]
    check_computation_chain(good, own)

    def broken(raws: list[bytes], told: str, mine: list[dict[str, Any]] = own) -> None:
        refused("chain", told, lambda: check_computation_chain(raws, mine), "REJECT")

    broken([], "0 receipts")
    broken(good[:-1], "not the last alone")  # cut off, so that nobody can say where it ended
    broken(good[-1:], "1 receipts")
    broken([*good, good[-1]], "not the last alone")
    broken([good[0], good[1], good[3]], "index and predecessor")  # a chunk dropped
    broken([good[1], good[0], *good[2:]], "index and predecessor")  # two changed places
    broken([good[0], good[1], good[1], *good[2:]], "index and predecessor")  # one doubled
    broken([*good[:2], chain(2)[-1]], "own chunks")  # shortened by who closes it
    foreign = chain(change=lambda chunks: chunks[1].update(computation={"id": "another", "version": "1"}))
    broken([good[0], foreign[1], *good[2:]], "index and predecessor")  # of another chain
    numbered = chain(change=lambda chunks: chunks[1]["chunk"].update(index=2))
    broken(numbered, "index and predecessor")
    broken(good, "own chunks", own[:-1])
    broken([certified(OWN), *good[1:]], "not the last alone")
    closing = json.loads(good[-1])["manifest"]
    closing["chunk"]["chain_digest"] = chain_digest(["", *(json.loads(raw)["certificate"] for raw in good[:-1])])
    broken([*good[:-1], certified(closing)], "chain_digest")


def test_each_chunk_of_a_chain_is_computed_again() -> None:
    lie = chain(change=lambda chunks: chunks[1].update(output=manifest_of(output=OUTPUT + 1)["output"]))
    own = [json.loads(raw)["manifest"] for raw in chain()[:-1]]
    refused("recomputation", "manifest.output", lambda: check_computation_chain(lie, own), "REJECT")
    open_end = [json.loads(raw)["manifest"] for raw in lie[:-1]]
    check_computation_chain(lie, open_end)
    unknown = chain(change=lambda chunks: chunks[0]["arithmetic"].update(profile="vendor-v0"))
    mine = [json.loads(raw)["manifest"] for raw in unknown[:-1]]
    refused("profile-known", "vendor-v0", lambda: check_computation_chain(unknown, mine), "UNVERIFIABLE")
    cut = [*chain()[:-1], b"["]
    refused("document", "JSON", lambda: check_computation_chain(cut, own))
