"""Where things lie in a checkout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from otr_core.errors import InputError
from otr_core.files import data_folder


@dataclass(frozen=True)
class Project:
    """Folders of one checkout; ``root`` holds ``data/sources.toml``.

    Attributes:
        packed: where there is no checkout, the data that an installed wheel carries, which is only
            read; what is made goes under ``root``, the working folder.
    """

    root: Path
    packed: Path | None = None

    @property
    def data(self) -> Path:
        """Ledger, sources, published numbers and stored results: committed."""
        return self.packed or self.root / "data"

    @property
    def external(self) -> Path:
        """Outside files and the converted model: fetched, never committed."""
        return (self.data if self.packed is None else self.build) / "external"

    @property
    def results(self) -> Path:
        """Stored measurements, each with its card: committed."""
        return self.data / "results"

    @property
    def notebooks(self) -> Path:
        """The stored, executed notebooks."""
        return self.root / "notebooks"

    @property
    def figures(self) -> Path:
        """Generated figures and tables of the default run: committed."""
        return self.root / "figures"

    @property
    def build(self) -> Path:
        """Output of every run that is not the default one: ignored by git."""
        return self.root / "build"

    @property
    def state(self) -> Path:
        """What the reproduce run remembers about finished steps: ignored by git."""
        return self.root / ".otr"


def find_project(start: Path | None = None) -> Project:
    """The checkout around ``start`` (default: the working folder), else around this package.

    Raises:
        InputError: neither is a checkout (the package was installed without its data).
    """
    here = (start or Path.cwd()).resolve()
    package_home = Path(__file__).resolve().parents[1]
    for folder in (here, *here.parents, package_home):
        if (folder / "data" / "sources.toml").is_file() and (folder / "otr_core").is_dir():
            return Project(folder)
    raise InputError(f"{here}: no checkout of the project here (data/sources.toml not found); run inside the clone")


def find_home() -> Project:
    """The checkout, as ``find_project`` finds it; where there is none, the working folder with the data
    that an installed wheel carries."""
    try:
        return find_project()
    except InputError:
        return Project(Path.cwd(), data_folder())
