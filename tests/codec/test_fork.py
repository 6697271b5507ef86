"""Processes that are started after others have computed on several threads compute too, to the same files."""

import os
import subprocess
import sys
from pathlib import Path

CODE = """
import multiprocessing, sys
import torch
from codec import Codec, Target
from tests.conftest import smooth_picture

def encoded():
    torch.nn.functional.conv2d(torch.zeros(1, 32, 96, 96), torch.zeros(32, 32, 3, 3))  # enough for two threads
    return Codec("tiny-1", "cpu").encode([smooth_picture(16, 16)], Target(steps=2))[0].data

def child(queue):
    queue.put((torch.get_num_threads(), encoded()))

if __name__ == "__main__":
    torch.set_num_threads(2)
    data = encoded()
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,), daemon=True)
        process.start()
        threads, found = queue.get(timeout=300)
        process.join()
        print(method, threads if method == "fork" else "own", found == data)
"""


def test_children_encode(models, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CODE)
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, script, "fork", "spawn"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.stdout.splitlines() == ["fork 1 True", "spawn own True"], done.stderr
