"""Where things lie: the repository root, the optional folder of real data, downloads."""

import os
from pathlib import Path

from entrobench.errors import MissingInput


def repository_root() -> Path:
    """The checkout's root: ENTROBENCH_ROOT if set, else the folder above `src/`."""
    override = os.environ.get("ENTROBENCH_ROOT")
    return Path(override) if override else Path(__file__).resolve().parents[2]


def from_here(path: str | Path) -> Path:
    """`path` relative to the working directory where it lies below it: one name for one file, however it is
    spelt and wherever the checkout stands.
    """
    absolute = Path(path).absolute()
    here = Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def shared_data() -> Path | None:
    """The folder of real data files (ENTROBENCH_SHARED_DATA, default ../shared/data), or None if absent."""
    override = os.environ.get("ENTROBENCH_SHARED_DATA")
    folder = Path(override) if override else repository_root().parent / "shared" / "data"
    return folder if folder.is_dir() else None


def cache_folder() -> Path:
    """Where downloads from git are kept."""
    return Path(os.environ.get("ENTROBENCH_CACHE", "~/.cache/entrobench")).expanduser()


def published_folder() -> Path:
    """The papers' own numbers, tracked in git; a results folder elsewhere does not move them."""
    return repository_root() / "results" / "published"


def real_data(relative: str) -> Path:
    """A file below the folder of real data. Raises MissingInput when that folder is absent."""
    folder = shared_data()
    if folder is None:
        raise MissingInput(
            f"no folder of real data, wanted for {relative}. Set ENTROBENCH_SHARED_DATA to the folder "
            f"that holds it."
        )
    return folder / relative
