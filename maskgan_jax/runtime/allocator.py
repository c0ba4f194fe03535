"""glibc's memory allocator, set for programs that want the same gigabytes again and again."""

from __future__ import annotations

import os
import platform
import sys

# As it comes, glibc gives large blocks back to the system when they are freed, and XLA on CPUs allocates and frees its buffers
# in every step: the kernel then clears pages for much of the time. Here freed memory is kept, and is asked for in huge pages.
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_threshold=8589934592",
        "glibc.malloc.trim_threshold=17179869184",
        "glibc.malloc.top_pad=268435456",
    )
)


def restart_with_huge_pages() -> None:
    """Starts this program anew, in the same process, with `TUNABLES`: glibc reads them when a program starts, and never again.

    Does nothing where the allocator is another one, or where GLIBC_TUNABLES is set already, be it to nothing. To be called
    before anything that costs time.
    """
    if platform.libc_ver()[0] != "glibc" or "GLIBC_TUNABLES" in os.environ:
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"GLIBC_TUNABLES": TUNABLES})


def compute_in_main_thread() -> None:
    """Has JAX run programs for CPUs in the thread that calls them, not in one of its own.

    glibc keeps freed memory in any amount for the main thread, but in blocks of at most 64 MiB for others: larger ones would
    still be cleared anew in every step. To be called before JAX is used.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
