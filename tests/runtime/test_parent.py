import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskgan_jax.runtime.parent import end_with_parent

PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
import test_parent

if __name__ == "__main__":
    test_parent.start()
"""


def child():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)


def start():
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_its_parent(stop, tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py"), str(Path(__file__).parent)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    number = int(parent.stdout.readline())
    os.kill(number, 0)
    parent.send_signal(stop)
    # The pipe ends only when the child, which shares it, has ended as well.
    assert parent.communicate(timeout=20)[0] == ""
    assert parent.returncode == -stop
