"""A command on other machines: settings that make libraries take other instructions, and other numbers of threads.

    python -m bench.machines [--on AVX2 ...] [--threads "one thread"] COMMAND ...

It runs once under each, one after the other, and goes on where it fails; the exit code is 1 then. `make test-machines`
runs the tests so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import click
import numpy as np


def numpy_without(*prefixes: str) -> dict[str, str]:
    """Take from numpy what it has beyond its baseline, of names that begin so; they change with its version."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])  # but for what is disabled already
    names = [os.environ.get("NPY_DISABLE_CPU_FEATURES", ""), *(name for name in found if name.startswith(prefixes))]
    return {"NPY_DISABLE_CPU_FEATURES": " ".join(names).strip()}


INSTRUCTIONS = {
    "its own": {},
    "no AMX": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
    "AVX2": {
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_CBWR": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "",
        **numpy_without("AVX512", "X86_V4"),
    },
    "SSE4.1": {
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NUMBA_CPU_NAME": "nehalem",
        "NUMBA_CPU_FEATURES": "",
        **numpy_without(""),
    },
}
THREADS = {"one thread": {"OMP_NUM_THREADS": "1"}, "two threads": {"OMP_NUM_THREADS": "2"}}


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--on", "names", multiple=True, type=click.Choice(list(INSTRUCTIONS)), help="Default: all, one by one.")
@click.option("--threads", multiple=True, type=click.Choice(list(THREADS)), help="Default: both.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def main(names, threads, command):
    """Run a command under each of several settings."""
    failed = []
    for name in names or INSTRUCTIONS:
        for some in threads or THREADS:
            where, start = f"{name} instructions, {some}" if name == "its own" else f"{name}, {some}", time.monotonic()
            print(f"== {where}", flush=True)
            status = subprocess.call(command, env={**os.environ, **INSTRUCTIONS[name], **THREADS[some]})
            failed += [where] if status else []
            print(f"== {where}: status {status}, {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print("failed on: " + "; ".join(failed))
        sys.exit(1)


if __name__ == "__main__":
    main()
