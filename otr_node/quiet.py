"""Other people's progress bars and warnings, kept out of what a notebook or a command shows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partialmethod
from typing import Any


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Let transformers load a model without bars and warnings, in this process, until the block ends.

    In a notebook its bars are displayed as outputs of the cell, so that a page that loads a model for
    the first time would differ from the same page later.
    """
    from transformers.utils import logging

    library: Any = logging
    level, tqdm = logging.get_verbosity(), library.tqdm_lib.tqdm
    # Some of its bars ask the library's own switch and some (of a GGUF file) do not, but all are of this class.
    first, own = tqdm.__init__, "__init__" in vars(tqdm)
    tqdm.__init__ = partialmethod(first, disable=True)
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if own:
            tqdm.__init__ = first
        else:
            del tqdm.__init__
