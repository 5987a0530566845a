"""A filter of system calls, seccomp(2): what reading and writing two pipes takes, memory, the time, and to end.

All that opens, makes, removes or looks up anything by its name, starts a process or a thread, speaks to a socket or to
another process is refused with EPERM, and so is whatever a later kernel has that is not on the list: a call that a
decoder turns out to want costs a thumbnail and no process. The filter stays for good, and holds for the threads that
decoding may need as well. Calls are numbered by processor, so there is one for x86-64 and ARM 64 alone.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from typing import NamedTuple

from common.errors import TesseraError

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2  # linux/prctl.h, linux/seccomp.h
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO
_UNKNOWN = 0x00050000 | errno.ENOSYS
# How glibc starts a thread: CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID.
_THREAD = 0x3D0F00
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K
_NUMBER, _PROCESSOR, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, the last of its lower half


class _Processor(NamedTuple):
    audit_arch: int  # linux/audit.h: a call by another convention, such as the 32-bit one, is refused
    allowed: tuple[int, ...]
    prlimit64: int  # allowed for this process itself, which lets itself have more processor time for each image
    clone: int
    for_threads: tuple[int, ...]  # what each thread begins with


_PROCESSORS = {
    "x86_64": _Processor(
        0xC000003E,
        (
            *(0, 1, 3, 5, 8),  # read, write, close, fstat, lseek
            *(9, 10, 11, 12, 25, 28),  # mmap, mprotect, munmap, brk, mremap, madvise
            *(13, 14, 15, 131),  # rt_sigaction, rt_sigprocmask, rt_sigreturn, sigaltstack
            *(24, 39, 186, 202, 204),  # sched_yield, getpid, gettid, futex, sched_getaffinity
            *(35, 96, 98, 100, 228, 230),  # nanosleep, gettimeofday, getrusage, times, clock_gettime, clock_nanosleep
            *(60, 219, 231, 318),  # exit, restart_syscall, exit_group, getrandom
        ),
        302,
        56,
        (273, 334),  # set_robust_list, rseq
    ),
    "aarch64": _Processor(
        0xC00000B7,
        (
            *(63, 64, 57, 80, 62),  # in the same order
            *(222, 226, 215, 214, 216, 233),
            *(134, 135, 139, 132),
            *(124, 172, 178, 98, 123),
            *(101, 169, 165, 153, 113, 115),
            *(93, 128, 94, 278),
        ),
        261,
        220,
        (99, 293),
    ),
}
_CLONE3 = 435


def filter_system_calls(*, threads: bool = False) -> bool:
    """Let this process, for good, make no system call but those on the list, and with `threads` start threads.

    Returns False, and does nothing, where the kernel has no filters, or its calls are numbered in another way;
    TesseraError where it has them and they cannot be had.
    """
    processor = _PROCESSORS.get(platform.machine())
    if sys.platform != "linux" or processor is None or sys.maxsize < 2**32:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _refused("PR_SET_NO_NEW_PRIVS", ctypes.get_errno())
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, None)
    if ctypes.get_errno() == errno.EINVAL:
        return False  # a kernel without filters does not even look where there is none: else EFAULT
    code = ctypes.create_string_buffer(_program(processor, threads))
    # struct sock_fprog: how many instructions, and where.
    program = struct.pack("@HP", len(code.raw) // 8, ctypes.addressof(code))
    if libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, program) != 0:
        raise _refused("PR_SET_SECCOMP", ctypes.get_errno())
    return True


def _program(processor: _Processor, threads: bool) -> bytes:
    """The filter, instruction by instruction (struct sock_filter); of a jump: how many to leave out if so, and if not.

    Source: Linux, Documentation/userspace-api/seccomp_filter.rst.
    """
    program = [(_LOAD, 0, 0, _PROCESSOR), (_JUMP_IF_EQUAL, 1, 0, processor.audit_arch), (_RETURN, 0, 0, _REFUSE)]
    program += [(_LOAD, 0, 0, _NUMBER), (_JUMP_IF_EQUAL, 0, 4, processor.prlimit64)]
    program += [(_LOAD, 0, 0, _FIRST_ARGUMENT), (_JUMP_IF_EQUAL, 0, 1, 0), (_RETURN, 0, 0, _ALLOW)]
    program += [(_RETURN, 0, 0, _REFUSE)]
    if threads:
        # The flags of clone3 lie in memory, where no filter can look; without it glibc takes clone.
        program += [(_JUMP_IF_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _UNKNOWN)]
        program += [(_JUMP_IF_EQUAL, 0, 4, processor.clone), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
        program += [(_JUMP_IF_EQUAL, 0, 1, _THREAD), (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    for number in processor.allowed + (processor.for_threads if threads else ()):
        program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    program += [(_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def _refused(what: str, number: int) -> TesseraError:
    return TesseraError(f"the viewer cannot be confined: {what}: {errno.errorcode.get(number, number)}")
