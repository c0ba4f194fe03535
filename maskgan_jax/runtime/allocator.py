"""Settings of glibc's memory allocator for programs that allocate and free the same gigabytes in every step."""

from __future__ import annotations

import os
import platform
import sys

from maskgan_jax.runtime import signals

# By default, glibc returns large freed blocks to the system. XLA on CPUs allocates and frees its buffers in every step, so the
# kernel would spend much of the time clearing pages. With these settings freed memory is kept, and comes in huge pages.
TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_threshold=8589934592",
        "glibc.malloc.trim_threshold=17179869184",
        "glibc.malloc.top_pad=268435456",
    )
)


def restart_with_huge_pages() -> None:
    """Restarts this program, in the same process, with `TUNABLES`, which glibc reads only when a program starts.

    Does nothing if the allocator is not glibc's or if GLIBC_TUNABLES is set, even to nothing. Call it before anything that
    takes time. A SIGINT or SIGTERM on the way is delivered when the restarted program gets here.
    """
    if platform.libc_ver()[0] != "glibc" or "GLIBC_TUNABLES" in os.environ:
        signals.release()
        return
    signals.hold()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"GLIBC_TUNABLES": TUNABLES})


def compute_in_main_thread() -> None:
    """Makes JAX run programs for CPUs in the calling thread instead of one of its own. Call it before JAX is used.

    glibc keeps any amount of freed memory for the main thread, but at most 64 MiB a block for others: larger blocks would
    still be cleared in every step.
    """
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
