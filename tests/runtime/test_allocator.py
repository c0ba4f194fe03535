import os
import platform
import subprocess
import sys

import pytest

from maskgan_jax.runtime import allocator

PROGRAM = """
import os, sys
from maskgan_jax.runtime.allocator import restart_with_huge_pages
print("started", os.getpid(), flush=True)
restart_with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:], sys.flags.dont_write_bytecode)
"""


def run(**environment):
    """The lines that the program prints, started with an option of Python's and two arguments."""
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"} | environment
    command = [sys.executable, "-B", "-c", PROGRAM, "one", "two words"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_starts_once_more_with_the_same_arguments():
    *started, last = run()
    assert len(started) == 2 and len(set(started)) == 1  # Twice, in one process.
    assert last == f"{allocator.TUNABLES} ['one', 'two words'] 1"


def test_a_setting_of_the_user_stands():
    assert run(GLIBC_TUNABLES="")[1:] == [" ['one', 'two words'] 1"]


def test_nothing_happens_elsewhere(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.os, "execve", lambda *_: pytest.fail("started anew"))
    allocator.restart_with_huge_pages()


READY = """
import jax, jax.numpy as jnp
from maskgan_jax.runtime.allocator import compute_in_main_thread
if {main}: compute_in_main_thread()
x = jax.block_until_ready(jnp.ones((700, 700)))
run = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, x: x @ x / 700, x)).lower(x).compile()
print(run(x).is_ready())
"""


@pytest.mark.parametrize("main", [True, False])
def test_programs_are_done_when_they_return(main):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", READY.format(main=main)]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip() == str(main)
