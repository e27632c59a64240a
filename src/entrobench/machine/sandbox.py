"""bubblewrap's command line and filters of system calls: where a model's code is run, or not at all.

A sandbox has user, process, network and IPC namespaces of its own, no capability, /usr and a Python
read-only, nothing else: no home, no /etc, no /proc, no /dev, no network, an empty environment.
"""

import os
import platform
import shutil
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from entrobench.errors import MissingInput, UnsupportedPlatform

NO_SANDBOX = (
    "  It needs user namespaces. As root type: sysctl user.max_user_namespaces=15000\n"
    "  and, where these settings exist, sysctl kernel.unprivileged_userns_clone=1\n"
    "  or sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)
_X32_CALLS = 0x40000000
_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD = 0x00010000


@dataclass(frozen=True)
class Calls:
    """Numbers of system calls on one architecture. audit: its number in the kernel's audit interface.

    processes: fork, vfork, clone, clone3. namespaces: unshare, setns. memory: shmget, beyond the limit of
    memory. others: signals to other processes (kill, tkill, tgkill, rt_sigqueueinfo, rt_tgsigqueueinfo,
    pidfd_send_signal), ptrace, process_vm_readv and process_vm_writev.
    """

    audit: int
    processes: tuple[int, ...]
    clone: int
    clone3: int
    namespaces: tuple[int, ...]
    memory: tuple[int, ...]
    others: tuple[int, ...]


CALLS = {
    "x86_64": Calls(
        0xC000003E, (57, 58), 56, 435, (272, 308), (29,), (62, 200, 234, 129, 297, 424, 101, 310, 311)
    ),
    "aarch64": Calls(
        0xC00000B7, (), 220, 435, (97, 268), (194,), (129, 130, 131, 138, 240, 424, 117, 270, 271)
    ),
}


def require_bwrap() -> str:
    """The path of bwrap. Raises MissingInput, or UnsupportedPlatform for a machine that it cannot serve."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in CALLS:
        raise UnsupportedPlatform(
            f"no sandbox for a model's code here: expected Linux on {' or '.join(CALLS)}, found "
            f"{sys.platform} on {machine}. Nothing is run."
        )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise MissingInput(
            "bwrap (bubblewrap) is not installed; a model's code is run in its sandbox or not at all.\n"
            "  Debian and Ubuntu: apt-get install bubblewrap. Fedora: dnf install bubblewrap"
        )
    return bwrap


def sandbox_command(
    bwrap: str,
    read_only: Mapping[Path, Path],
    writable: Mapping[Path, int] | None = None,
    filter_descriptor: int | None = None,
) -> list[str]:
    """bwrap with its options. read_only: file or folder here -> its place in the sandbox. writable: place in
    the sandbox -> bytes of an own file system in memory.
    """
    command = [bwrap, "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    command += ["--cap-drop", "ALL", "--clearenv", "--ro-bind", "/usr", "/usr"]
    command += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for folder in map(Path, ("/bin", "/lib", "/lib32", "/lib64")):
        if folder.is_symlink():
            command += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            command += ["--ro-bind", str(folder), str(folder)]
    for there, size in (writable or {}).items():
        command += ["--size", str(size), "--tmpfs", str(there)]
    for here, there in read_only.items():  # after them: what is read may lie below /tmp
        if not there.is_relative_to("/usr"):
            command += ["--ro-bind", str(here), str(there)]
    command += ["--remount-ro", "/", "--chdir", "/"]
    return command if filter_descriptor is None else [*command, "--seccomp", str(filter_descriptor)]


def this_python() -> tuple[Path, Path]:
    """The interpreter of this process without its site-packages, and the folder that it needs."""
    prefix = Path(sys.base_prefix)
    return prefix / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}", prefix


def call_filter(may_start_threads: bool = False) -> bytes:
    """A classic BPF program (linux/filter.h, linux/seccomp.h) under which no process is started, no
    namespace entered and, with threads, no other process signalled or read: such calls fail.

    An instruction is code, jump if true, jump if false, operand.
    """
    calls = CALLS[platform.machine()]
    refused = (*calls.processes, *calls.namespaces, *calls.memory)
    refused += calls.others if may_start_threads else (calls.clone, calls.clone3)
    load, equal, at_least, has_bit, give = 0x20, 0x15, 0x35, 0x45, 0x06
    kill, allow = 0x80000000, 0x7FFF0000

    def error(number: int) -> tuple[int, int, int, int]:
        return give, 0, 0, 0x00050000 | number

    steps = [(load, 0, 0, 4), (equal, 1, 0, calls.audit), (give, 0, 0, kill), (load, 0, 0, 0)]
    steps += [(at_least, 0, 1, _X32_CALLS), error(_EPERM)]
    for call in refused:
        steps += [(equal, 0, 1, call), error(_EPERM)]
    if may_start_threads:
        # The C library takes clone where there is no clone3, whose flags a filter cannot read
        steps += [(equal, 0, 1, calls.clone3), error(_ENOSYS), (equal, 0, 3, calls.clone)]
        steps += [(load, 0, 0, 16), (has_bit, 1, 0, _CLONE_THREAD), error(_EPERM)]
    steps += [(give, 0, 0, allow)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)
