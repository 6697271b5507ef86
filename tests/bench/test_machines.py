"""Settings that stand in for other machines do what they say, or what runs under them shows nothing."""

import functools
import json
import os
import platform
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from bench import machines
from ddpm import machine

SEEN = """
import json, numba, numpy, torch
loop = numba.njit(["(float32[::1], float32)"])(lambda x, a: (x[:] * a).sum())
code = " ".join(loop.inspect_asm().values())
wide = [name for name in ("ymm", "zmm") if name in code]
simd = numpy.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
print(json.dumps([torch.backends.cpu.get_cpu_capability(), simd, torch.get_num_threads(), wide]))
"""


@functools.cache
def seen(instructions, threads):
    """What libraries say: torch's instructions, numpy's beyond its baseline, threads, registers that numba fills."""
    settings = {**machines.INSTRUCTIONS[instructions], **machines.THREADS[threads]}
    done = subprocess.run([sys.executable, "-c", SEEN], env={**os.environ, **settings}, capture_output=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="instructions of x86-64")
def test_less_than_there_is_is_used():
    torch_has, numpy_has, _, wide = seen("SSE4.1", "one thread")
    assert (torch_has, numpy_has, wide) == ("DEFAULT", [], [])
    torch_has, numpy_has, _, wide = seen("AVX2", "two threads")
    assert wide in ([], ["ymm"])
    assert not torch_has.startswith("AVX512")
    assert not [name for name in numpy_has if name.startswith(("AVX512", "X86_V4"))]


@pytest.mark.parametrize(("under", "threads"), [(("SSE4.1", "one thread"), 1), (("AVX2", "two threads"), 2)])
def test_threads_are_as_many(under, threads):
    assert seen(*under)[2] == threads


def test_a_command_runs_under_each_and_failures_are_named(capfd):
    code = "import os, sys; isa = os.environ.get('ONEDNN_MAX_CPU_ISA'); print('under', isa); sys.exit(isa == 'AVX2')"
    asked = ["--on", "AVX2", "--on", "SSE4.1", "--threads", "one thread"]
    done = CliRunner().invoke(machines.main, [*asked, sys.executable, "-c", code])
    assert capfd.readouterr().out.splitlines() == ["under AVX2", "under SSE41"]
    assert done.exit_code == 1
    assert done.output.splitlines()[-1] == "failed on: AVX2, one thread"
    done = CliRunner().invoke(machines.main, [*asked[2:], sys.executable, "-c", code])
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("told", "fast"),
    [(None, True), ("ALL", True), ("DEFAULT", True), ("avx512_core_amx", True), ("AVX512_CORE_BF16", False)],
)
def test_matrix_units_that_libraries_may_not_use_are_none(monkeypatch, told, fast):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    if told:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", told)
    assert machine.has_fast_bf16.__wrapped__(torch.device("cpu")) is fast
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert not machine.has_fast_bf16.__wrapped__(torch.device("cpu"))
