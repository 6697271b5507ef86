"""A model with an exact network: files and pictures are the same whatever computes."""

import contextlib
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codec import Codec, CodecError, Target, archive
from codec.archive.header import unpack
from codec.calibration.exact import exact_tensors
from codec.calibration.tables import coding_tables
from codec.lossy.basis import COSINE, cosines
from codec.lossy.denoise import M_GRID, enlarge, m_table
from codec.lossy.tables import CodingTables
from ddpm.exact import functions
from ddpm.exact.convolution import Float32, Int8, is_exact
from ddpm.exact.local import ExactLocalNet
from ddpm.exact.mode import Exactly
from ddpm.machine import all_threads
from ddpm.models.load import load_model, save_model
from ddpm.models.model import DDPM
from tests.conftest import smooth_picture

NETWORK = {"kind": "local", "widths": [8, 16], "down": [1, 1], "up": [1, 1], "patch": 2}
PICTURES = [smooth_picture(24, 20, 1), smooth_picture(33, 18, 2), smooth_picture(16, 40, 3, channels=1)]


@pytest.fixture(scope="module", params=["local", "unet"])
def exact(request, tiniest_model, tmp_path_factory):
    """The path of a small model with an exact network."""
    return tiniest_model if request.param == "unet" else local(tmp_path_factory)


def local(tmp_path_factory) -> str:
    torch.manual_seed(0)
    schedule = {"kind": "linear-gamma", "gamma_max": 5.5, "gamma_min": -9.2}
    model = DDPM({"schedule": schedule, "network": NETWORK}).eval()
    for p in model.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    batch = torch.from_numpy(np.stack([smooth_picture(16, 16, s) for s in range(8)])).permute(0, 3, 1, 2)
    levels = np.linspace(5.5, -9.2, 9)
    how = {"surplus": 1.05, "memory": 8, "min_bits": 12, "scales": (1, 2), "quiet": True}
    tables = coding_tables(model, [batch], levels, **how)
    integers = exact_tensors(model, tables, [batch], quiet=True)
    path = tmp_path_factory.mktemp("exact") / "small-1"
    save_model(model, path, {"coding": tables.to_card()}, integers)
    return str(path)


@contextlib.contextmanager
def computed(codec: Codec, kind, threads: int, onednn: bool):
    """The codec's network by this kind of convolution, and so on."""
    net = codec.model.exact
    with all_threads(), torch.backends.mkldnn.flags(enabled=onednn), pytest.MonkeyPatch.context() as patch:
        torch.set_num_threads(threads)
        if isinstance(net, ExactLocalNet):
            patch.setattr(codec.model, "exact", other := ExactLocalNet(net.config, net.tensors, kind))
            other.floats = net.floats
        else:
            patch.setattr(functions, "fastest", lambda device, little: kind)
            patch.setattr(net, "exactly", Exactly())
        yield


def settings():
    kinds = [kind for kind in (Float32, Int8) if is_exact(kind)]
    return [(kind, *how) for kind, how in itertools.product(kinds, ((1, True), (2, False)))]


@pytest.mark.parametrize("target", [Target(bits_per_dim=0.6), Target(lossless=True)], ids=["lossy", "lossless"])
def test_files_and_pictures_do_not_depend_on_what_computes(exact, target):
    codec = Codec(exact)
    files, pictures = [], []
    for how in settings():
        with computed(codec, *how):
            files.append([coded.data for coded in codec.encode(PICTURES, target)])
    for how in settings():
        with computed(codec, *how):
            pictures.append([[d.array for d in codec.decode(part)] for part in (files[0], [f[:-9] for f in files[0]])])
    assert all(made == files[0] for made in files)
    for decoded in pictures:
        for part, first in zip(decoded, pictures[0]):
            assert all(np.array_equal(a, b) for a, b in zip(part, first))
    if target.lossless:
        assert all(np.array_equal(a, b) for a, b in zip(pictures[0][0], PICTURES))


ARCHIVED = [(f"{i}", smooth_picture(12, 16, i)) for i in range(6)] + [("grey", PICTURES[2])]


def test_archives_do_not_depend_on_what_computes(exact):
    """Nor on how many patches the network is shown at a time."""
    model = load_model(exact)
    made = archive.create(ARCHIVED, model, store=False)
    assert max(unpack(made).plan) > 1
    for how in settings()[1::2]:
        with computed(Codec(model), *how):
            assert archive.create(ARCHIVED, model, store=False) == made
            whole = model.exact.at
            model.exact.at = lambda z, gamma, whole=whole: map(
                torch.cat, zip(*(whole(one, gamma[:1]) for one in z.split(1)))
            )
            back = dict(archive.extract(made, model))
        assert all(np.array_equal(back[name], array) for name, array in ARCHIVED)


def test_archives_ask_for_an_exact_network(exact):
    model = load_model(exact)
    model.exact = None
    with pytest.raises(CodecError, match="--exact"):
        archive.create(ARCHIVED, model)
    with pytest.raises(CodecError, match="--exact"):
        Codec(model)


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4, 8]), st.floats(1e-6, 1))
def test_means_of_m_are_exact(seed, scale, c_out2):
    """In whatever order they are added, after interpolation too."""
    m = m_table(c_out2)
    m = enlarge(
        m[torch.randint(len(m), (1, 3, 16, 16), generator=torch.Generator().manual_seed(seed))], scale, (16, 16)
    )
    total = float((m / scale**2).sum())
    assert total == math.fsum((m / scale**2).flatten().tolist())
    units = total / M_GRID * scale**4 * 4**2
    assert units == int(units) < 2**53


def test_pictures_of_a_batch_are_what_they_are_alone(exact):
    codec = Codec(exact)
    together = codec.encode([PICTURES[0], smooth_picture(24, 20, 7)], Target(bits_per_dim=0.6))
    assert codec.encode(PICTURES[0], Target(bits_per_dim=0.6)).data == together[0].data


@pytest.mark.parametrize("gamma", [None, 4.1, -2.7, -9.9])
def test_it_says_nearly_what_the_float_network_says(exact, gamma):
    """Also at levels that it has not been made for."""
    model, tables = load_model(exact), CodingTables.of_model(load_model(exact))
    z = torch.randn(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    gamma = torch.full((2,), tables.gammas[-1] if gamma is None else gamma)
    with torch.inference_mode():
        exact_maps = model.maps(z, gamma)
        model.exact = None
        for h, expected in zip(exact_maps, model.maps(z, gamma)):
            assert 0 < float((h - expected).square().mean()) < 0.02 * float(expected.square().mean())


@pytest.mark.parametrize("how", [{"max_size": 7}, {"recon": "flow"}, {"recon": "sample"}], ids=str)
def test_whatever_is_shown_does_not_depend_on_what_computes(exact, how):
    codec = Codec(exact)
    data = codec.encode(PICTURES[0], Target(bits_per_dim=0.6)).data
    shown = []
    for setting in settings():
        with computed(codec, *setting):
            shown.append(codec.decode(data, **how).array)
    assert all(np.array_equal(picture, shown[0]) for picture in shown)


def test_no_cosine_is_near_a_tie():
    """Entries are the same whatever the last digits of the machine's mathematics are."""
    for n in (1, 2, 3, *range(4, 65)):
        k, i = np.mgrid[:n, :n]
        scale = np.where(k == 0, 1, np.sqrt(2)) / np.sqrt(n)
        entries = scale * np.cos(np.pi * (2 * i + 1) * k / (2 * n)) / COSINE
        assert np.abs(entries - np.floor(entries) - 0.5).min() > 1e-6
        assert np.array_equal(np.rint(entries), cosines(n).numpy())
