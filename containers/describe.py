"""Runs inside an image: what it contains. `packages`: a table of name, version, licence. `content`: one
SHA-256 over the path and SHA-256 of every file. Standard library only.
"""

import gzip
import hashlib
import os
import re
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

# What is no part of the image, what Apptainer writes when it starts, logs and caches
LEFT_OUT = ("/proc/", "/sys/", "/dev/", "/tmp/", "/mnt/", "/run/", "/root/", "/home/", "/.singularity.d/")
LEFT_OUT += ("/var/log/", "/var/cache/", "/var/tmp/", "/var/lib/apt/", "/var/lib/dpkg/")
LEFT_OUT += (
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/hostname",
)
LEFT_OUT += ("/etc/localtime", "/etc/ld.so.cache")
NO_LICENCE = "not stated"


def main() -> None:
    if sys.argv[1:] == ["packages"]:
        rows = sorted(debian_packages()) + sorted(python_packages())
        print("kind\tname\tversion\tlicence")
        for row in rows:
            print("\t".join(" ".join(field.split()) for field in row))
    elif sys.argv[1:] == ["content"]:
        print(content_digest())
    else:
        sys.exit("usage: describe.py packages | content")


def debian_packages() -> list[tuple[str, str, str, str]]:
    """(kind, name, version, licence) of every Debian package; licences from its copyright file."""
    query = ["dpkg-query", "--show", "--showformat=${Package}\t${Version}\n"]
    lines = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    return [
        ("debian", name, version, debian_licence(name)) for name, version in (x.split("\t") for x in lines)
    ]


def debian_licence(package: str) -> str:
    """The `License:` fields of a machine-readable copyright file, else where its text stands."""
    path = Path(f"/usr/share/doc/{package}/copyright")
    packed = path.with_name("copyright.gz")
    if path.exists():
        text = path.read_text(encoding="utf-8", errors="replace")
    elif packed.exists():
        text = gzip.decompress(packed.read_bytes()).decode("utf-8", errors="replace")
    else:
        return NO_LICENCE
    # A short name, as the format asks for; some files have a sentence there
    names = sorted(set(re.findall(r"^License:[ \t]*([A-Za-z][\w.+-]*)[ \t]*$", text, re.MULTILINE)))
    return "; ".join(names) or f"see {path}"


def python_packages() -> list[tuple[str, str, str, str]]:
    """(kind, name, version, licence) of every distribution in the environment and the graders' folder."""
    folders = [*sys.path, f"{sys.prefix}/grader-packages"]
    found = {(d.metadata["Name"], d.version, python_licence(d)) for d in distributions(path=folders)}
    return [("python", *entry) for entry in found]


def python_licence(distribution: Distribution) -> str:
    """The licence expression, else the classifiers, else the first line of the licence field."""
    metadata = distribution.metadata
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [x for x in metadata.get_all("Classifier") or [] if x.startswith("License ::")]
    if names := [x.rsplit(" :: ", 1)[1] for x in classifiers if not x.endswith("OSI Approved")]:
        return "; ".join(names)
    return ((metadata.get("License") or "").strip().splitlines() or [NO_LICENCE])[0]


def content_digest() -> str:
    """SHA-256 over sorted lines `path, SHA-256 or link target`, LEFT_OUT left out."""
    lines = []
    for folder, names, files in os.walk("/"):
        paths = [os.path.join(folder, name) for name in [*names, *files]]
        names[:] = [name for name in names if not f"{os.path.join(folder, name)}/".startswith(LEFT_OUT)]
        for path in paths:
            # Compiled Python follows from its source, but not byte for byte
            if path.startswith(LEFT_OUT) or path.endswith(".pyc"):
                continue
            if os.path.islink(path):
                lines.append(f"{path}\t{os.readlink(path)}")
            elif os.path.isfile(path):
                with open(path, "rb") as stream:
                    lines.append(f"{path}\t{hashlib.file_digest(stream, 'sha256').hexdigest()}")
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


if __name__ == "__main__":
    main()
