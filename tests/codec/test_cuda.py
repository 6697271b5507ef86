"""What a CUDA device does by itself, against what the CPU does.

Without one (or with TRITON_INTERPRET=1) Triton's interpreter runs the kernels on the CPU, on small codes; ``-m gpu``
runs the rest.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from bench.channels.trellis import RandomLabels, Relabelled
from codec.api import Codec, Target
from codec.channel.labels import Labels
from codec.channel.message import decode, encode
from codec.channel.metrics import Metrics
from codec.channel.search import in_stretches, tail_biting
from codec.channel.viterbi import OnCpu
from codec.randomness.interleave import _scramble_there, scramble
from tests.conftest import smooth_picture

there = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
gpu = lambda test: pytest.mark.gpu(there(test))  # noqa: E731
both = pytest.mark.parametrize("kind", [Labels, RandomLabels])


def target(dims, seed, device="cpu"):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(dims, generator=g).to(device), (-0.2 * torch.rand(dims, generator=g)).to(device)


def paths_agree(code, search, device):
    """Both ways to find a path, on the device and in NumPy from the same metrics."""
    from codec.channel import viterbi_cuda

    metrics = Metrics(code, *target(code.dims, 1, device))
    here, there = OnCpu(metrics, code.memory), viterbi_cuda.Search(metrics, code.memory, torch.device(device))
    here.stretch, here.overlap = there.stretch, there.overlap = 100, 40
    assert np.array_equal(search(code, here), search(code, there))


@pytest.mark.skipif(find_spec("triton") is None, reason="no Triton here")
def test_kernels_in_the_interpreter():
    """In a process of its own, as Triton decides when it is imported."""
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.codec.test_cuda"], env=environment, capture_output=True, text=True
    )
    if "only 0-dimensional arrays can be converted" in done.stderr:
        pytest.skip("Triton's interpreter does not know this NumPy yet")
    assert done.returncode == 0, done.stderr


def interpreted():
    from codec.channel import viterbi_cuda
    from codec.randomness import philox_cuda

    cpu = torch.device("cpu")
    assert viterbi_cuda.works(cpu)
    assert philox_cuda.works(cpu)
    for kind in (Labels, RandomLabels):
        for dims, bits, memory in [(40, 30, 2), (200, 60, 5), (900, 250, 7)]:
            paths_agree(Relabelled(dims, bits, memory, kind=kind), tail_biting, "cpu")
        paths_agree(Relabelled(900, 250, 6, kind=kind), in_stretches, "cpu")


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1000])
def test_scrambles_agree_where_they_are_made_of_int64(n):
    for here, there in zip(scramble(2**64 - 1, 3, n), _scramble_there(2**64 - 1, 3, n, torch.device("cpu"))):
        assert here.dtype == there.dtype
        assert torch.equal(here, there)


@gpu
def test_triton_works():
    from codec.channel import viterbi_cuda
    from codec.randomness import philox_cuda

    assert viterbi_cuda.works(torch.device("cuda"))
    assert philox_cuda.works(torch.device("cuda"))


@gpu
@pytest.mark.parametrize("memory", [2, 5, 11, 14])
@pytest.mark.parametrize("search", [tail_biting, in_stretches])
@both
def test_paths_agree(memory, search, kind):
    paths_agree(Relabelled(6000, 700, memory, kind=kind), search, "cuda")


@gpu
@pytest.mark.parametrize(("seed", "n"), [(0, 1), (1, 1_000_000), (2**64 - 1, 3_000_001)])
def test_scrambles_agree(seed, n):
    for here, there in zip(scramble(seed, 3, n), scramble(seed, 3, n, "cuda")):
        assert torch.equal(here, there.cpu())


@gpu
@pytest.mark.parametrize(("dims", "bits"), [(9000, 50), (30_000, 900), (30_000, 5000)])
@both
def test_messages_are_as_good_and_mean_the_same(dims, bits, kind):
    code = Relabelled(dims, bits, 12, kind=kind)
    (a, b), rest = target(dims, 2), torch.full((dims,), 9.0)
    reached = {}
    for device in ("cpu", "cuda"):
        message = encode(code, a.to(device), b.to(device))
        for n in (bits // 2, bits):
            zeta = decode(code, message[:n], rest)
            assert torch.equal(decode(code, message[:n], rest.cuda()).cpu(), zeta)
        reached[device] = float((a * zeta + b * zeta**2).double().sum())
    assert reached["cuda"] == pytest.approx(reached["cpu"], rel=0.02 if bits < 100 else 0.005)


@gpu
@pytest.mark.parametrize("grey", [False, True])
def test_files_made_on_one_device_are_read_on_the_other(models, grey):
    codecs = {device: Codec("tiny-1", device) for device in ("cpu", "cuda")}
    pictures = [smooth_picture(40, 56, seed, 1 if grey else 3) for seed in range(2)]
    for device, codec in codecs.items():
        for file in codec.encode(pictures, Target(bits_per_dim=1.0)):
            shown = [c.decode([file.data])[0].array.astype(int) for c in codecs.values()]
            assert np.abs(shown[0] - shown[1]).max() <= 1, device
            assert file.psnr > 20


if __name__ == "__main__":
    interpreted()
