"""Container images: their build, and whether those on disk are the recorded ones."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from entrobench.paths import repository_root


class Kind(StrEnum):
    """Device that an image is for."""

    cpu = "cpu"
    cuda = "cuda"


Names = Annotated[list[str] | None, typer.Argument(help="train, evaluate, report (default: all).")]
Device = Annotated[Kind, typer.Option(help="Device that the images are for.")]
Folder = Annotated[
    Path | None,
    typer.Option(help="Of the SIF files (default: paths.images of the site)."),
]
Lock = Annotated[Path | None, typer.Option(help="Default: containers/images.lock.yaml.")]


def add_to(app: typer.Typer) -> None:
    """Add `images` with its own verbs."""
    images = typer.Typer(help="Container images (docs/images.md).", no_args_is_help=True)
    images.command()(build)
    images.command()(pull)
    images.command()(check)
    app.add_typer(images, name="images", rich_help_panel="Images")


def build(
    names: Names = None,
    device: Device = Kind.cpu,
    folder: Folder = None,
    lock: Lock = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only what is not as recorded.")] = False,
    publish: Annotated[
        bool, typer.Option("--publish", help="Record them in the lock, for all, not as this machine's own.")
    ] = False,
) -> None:
    """Build images and record them, as root or as a user with subordinate ids."""
    from entrobench.images.build import build_images
    from entrobench.images.sif import state_of

    images, folder, lock = _chosen(names, device, folder, lock)
    if missing:
        images = [image for image in images if state_of(image, folder, lock)[0] != "ok"]
    if images:
        build_images(images, folder.resolve(), lock, publish)


def pull(
    names: Names = None,
    device: Device = Kind.cpu,
    folder: Folder = None,
    lock: Lock = None,
    place: Annotated[
        str | None, typer.Option("--from", help="Where they are (default: images_from of configs/site.yaml).")
    ] = None,
) -> None:
    """Fetch published images, and check them against the lock."""
    from entrobench.images.pull import pull_images
    from entrobench.machine.site import site_or_none

    images, folder, lock = _chosen(names, device, folder, lock)
    site = site_or_none(repository_root() / "configs")
    pull_images(images, place or (site.images_from if site is not None else ""), folder.resolve(), lock)


def check(names: Names = None, device: Device = Kind.cpu, folder: Folder = None, lock: Lock = None) -> None:
    """Say whether the images on disk are the recorded ones; those that are named have to be there."""
    from entrobench.images.sif import report_states

    images, folder, lock = _chosen(names, device, folder, lock)
    report_states(images, folder, lock, required=bool(names))


def _chosen(
    names: list[str] | None, device: Kind, folder: Path | None, lock: Path | None
) -> tuple[list[str], Path, Path]:
    """Full names, folder and lock of what a command is about."""
    from entrobench.images.sif import NAMES, full_name, image_folder, lock_file
    from entrobench.machine.site import site_or_none

    images = list(dict.fromkeys(full_name(name, device.value) for name in names or NAMES))
    site_folder = folder or image_folder(site_or_none(repository_root() / "configs"))
    return images, site_folder, lock or lock_file()
