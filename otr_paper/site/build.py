"""``make site``: gather the pages, have Sphinx make HTML of them into build/site; nothing runs, nothing is fetched.

Usage: ``python -m otr_paper.site.build [FOLDER]``. The checkout itself is only read, so that a read-only one builds
into another folder.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from otr_core.errors import NotebookError
from otr_core.extras import need_extras
from otr_core.files import write_text
from otr_node.project import Project, find_project
from otr_paper.site.pages import gather_pages


def build_site(project: Project, out: Path) -> float:
    """Make the site in ``out``; returns the seconds it took.

    Raises:
        NotebookError: Sphinx found something to warn of; nothing is left in ``out``.
        MissingExtraError: the extra ``site`` is not installed.
    """
    need_extras("site")
    started = time.perf_counter()
    source = out.with_name(f"{out.name}-source")
    for folder in (source, out):
        shutil.rmtree(folder, ignore_errors=True)
    gather_pages(project, source)
    # A process of its own: Sphinx changes the state of the interpreter that it runs in.
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-j",
        "2",
        "-b",
        "html",
        str(source),
        str(out),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        shutil.rmtree(out, ignore_errors=True)
        raise NotebookError(f"site: Sphinx warns: {' '.join(run.stderr.split())}")
    shutil.rmtree(out / ".doctrees", ignore_errors=True)
    write_text(out / ".nojekyll", "")
    return time.perf_counter() - started


def main() -> None:
    """Build the site from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", nargs="?", type=Path, help="folder of the site; default: build/site")
    project = find_project()
    out = parser.parse_args().out or project.build / "site"
    print(f"site: {out / 'index.html'}, made in {build_site(project, out.resolve()):.0f} s")


if __name__ == "__main__":
    main()
