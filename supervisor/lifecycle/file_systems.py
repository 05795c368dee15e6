"""Which file systems hold files, and which the kernel only shows itself in, such as /proc and /sys."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_OF_THE_KERNEL: Final = frozenset(
    {
        0x9FA0,  # proc
        0x62656572,  # sysfs
        0x27E0EB,  # cgroup
        0x63677270,  # cgroup2
        0x64626720,  # debugfs
        0x74726163,  # tracefs
        0x73636673,  # securityfs
        0x62656570,  # configfs
        0xF97CFF8C,  # selinuxfs
        0x43415D53,  # smackfs
        0x5A3C69F0,  # apparmorfs
        0xCAFE4A11,  # bpf
        0x6165676C,  # pstore
        0xDE5E81E4,  # efivarfs
        0x42494E4D,  # binfmt_misc
        0x6E736673,  # nsfs
        0x1CD1,  # devpts
        0x7655821,  # resctrl
        0x65735543,  # fusectl
        0xABBA1974,  # xenfs
    }
)
"""As in linux/magic.h; tmpfs is none of them, since it holds what was put there."""


def is_of_the_kernel(fd: int) -> bool:
    """Whether what is open at `fd` is the kernel's own, wherever it is mounted.

    Raises:
        OSError: it cannot be asked.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    # A struct statfs has 120 bytes at most, and begins with the type, in as many bytes as a long where we run.
    answer = ctypes.create_string_buffer(512)
    if libc.fstatfs(fd, answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    # Types are 32 bits wide, and widened with their sign in some places.
    return (ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF) in _OF_THE_KERNEL
