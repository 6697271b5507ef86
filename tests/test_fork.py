"""Processes that are started after pictures were coded on several threads code them too, to the same files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import multiprocessing, sys
import torch
from codec import Codec, Target
from tests.conftest import smooth_picture

def encoded():
    return Codec("tiny-1", "cpu").encode([smooth_picture(96, 96)], Target(steps=3))[0].data

def child(queue):
    queue.put((torch.get_num_threads(), encoded()))

if __name__ == "__main__":
    torch.set_num_threads(2)
    data, context = encoded(), multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=child, args=(queue,), daemon=True)
    process.start()
    threads, found = queue.get(timeout=float(sys.argv[2]))
    process.join()
    print(sys.argv[1], threads, found == data)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_encode(models, tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(CODE)
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, script, method, "200"], env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.stdout.split()[::2] == [method, "True"], done.stderr
    if method == "fork":
        assert done.stdout.split()[1] == "1"
