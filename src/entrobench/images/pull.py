"""Images that somebody has built and published, fetched by the digests of containers/images.lock.yaml."""

import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from entrobench.errors import ConfigError, MissingInput, PinMismatch
from entrobench.files import atomic_path, sha256_file
from entrobench.images.sif import build_command, forget_local, read_published, state_of

ORAS = "oras://"
SCHEMES = ("https://", "http://", "file://")


def pull_images(images: Sequence[str], place: str, folder: Path, lock: Path) -> None:
    """Fetch images (`report-cpu`) that are not in `folder` as recorded, and check their digests.

    place: `oras://<registry>/<repository>`, tagged `<image>-<first twelve digits of its SHA-256>`, or the
    address of a folder of SIF files (https, http, file). A record of an own build gives way. Raises
    ConfigError without a place, MissingInput for what is not there, PinMismatch for another file: what stood
    here before stays.
    """
    if not place.startswith((ORAS, *SCHEMES)):
        raise ConfigError(
            f"images_from in configs/site.yaml: expected {ORAS}<registry>/<repository>, or the address of a "
            f"folder of SIF files, found {place!r}.\n  Where nobody has published images, build them: "
            f"{build_command(images[0])}"
        )
    published = read_published(lock).images
    for image in images:
        if image not in published:
            raise MissingInput(f"{lock} records no {image}. Type: {build_command(image)}")
        forget_local(image, lock)
        if state_of(image, folder, lock)[0] == "ok":
            print(f"[images] {image}: is here", flush=True)
            continue
        expected = published[image].sha256
        with atomic_path(folder / f"{image}.sif") as arriving:
            _fetch(image, expected, place.rstrip("/"), arriving)
            if (found := sha256_file(arriving)) != expected:
                raise PinMismatch(
                    f"{image} at {place}: expected sha256 {expected}, found {found}.\n  It is not the image "
                    f"that {lock} records; nothing was changed here. Ask who publishes it, or build your "
                    f"own: {build_command(image)}"
                )
        print(f"[images] {image}: sha256 {expected[:12]}..., as recorded", flush=True)


def _fetch(image: str, sha256: str, place: str, target: Path) -> None:
    """Write an image to `target`. Raises MissingInput."""
    address = f"{place}:{image}-{sha256[:12]}" if place.startswith(ORAS) else f"{place}/{image}.sif"
    print(f"[images] {image}: from {address}", flush=True)
    if place.startswith(ORAS):
        command = ["apptainer", "--silent", "pull", "--force", "--disable-cache", str(target), address]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise MissingInput("apptainer is not on PATH. Load its module") from error
        if done.returncode:
            raise MissingInput(f"{address} cannot be pulled: {done.stderr.strip()[-500:]}")
        return
    try:
        with urllib.request.urlopen(address) as source, target.open("wb") as stream:
            shutil.copyfileobj(source, stream, 1 << 22)
    except (urllib.error.URLError, OSError) as error:
        raise MissingInput(f"{address} cannot be fetched: {getattr(error, 'reason', error)}") from error
