import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.channels.trellis import RandomLabels, Relabelled
from codec.channel import labels, trellis, viterbi
from codec.channel.labels import Labels
from codec.channel.message import decode, encode
from codec.channel.metrics import Metrics
from codec.channel.trellis import Trellis
from codec.lossy import tables

shapes = st.integers(1, 300).flatmap(lambda d: st.tuples(st.just(d), st.integers(0, min(d, 60)), st.integers(0, 8)))


def target(dims, seed, scale=1.0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(dims, generator=g), -0.2 * torch.rand(dims, generator=g)


def metric(a, b, zeta):
    return float((a * zeta + b * zeta**2).double().sum())


@given(shapes, st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_any_shape_encodes_to_its_bits_and_decodes(shape, seed):
    code = Trellis(*shape)
    message = encode(code, *target(code.dims, seed))
    assert message.shape == (code.bits,)
    assert set(message.tolist()) <= {0, 1}
    zeta = decode(code, message, torch.full((code.dims,), 9.0))
    assert zeta.shape == (code.dims,)
    assert (zeta != 9).all() or code.bits == 0


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8, 11])
@pytest.mark.parametrize("seed", range(3))
def test_short_messages_are_the_best_of_all(bits, seed):
    """Against every one of the 2^S messages, through the decoder alone."""
    code = Trellis(40, bits)
    a, b = target(40, seed)
    best = max(metric(a, b, decode(code, np.array(m, np.uint8), torch.zeros(40))) for m in product([0, 1], repeat=bits))
    assert metric(a, b, decode(code, encode(code, a, b), torch.zeros(40))) == pytest.approx(best, rel=1e-4, abs=1e-4)


def test_long_stages_are_folded_and_fold_is_the_adjoint_of_unfold():
    code = Trellis(5000, 10)
    assert code.rows == labels.SPHERE_ROWS
    values, entries = torch.randn(5000), torch.randn(10, code.rows)
    left = (code.fold(values) * entries).sum()
    right = (values * code.unfold(entries)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-4)


@given(st.integers(1, 4000), st.integers(1, 300), st.integers(1, 700))
@settings(max_examples=100, deadline=None)
def test_folding_by_parts_is_folding(dims, bits, chunk):
    """However many dimensions are folded at once: element i adds to row (i // bits) mod rows of stage i mod bits."""
    code = Trellis(dims, min(bits, dims))
    values = np.random.default_rng(dims).integers(-99, 99, dims)  # sums are exact
    i, folded = np.arange(dims), np.zeros((code.bits, code.rows))
    np.add.at(folded, (i % code.bits, i // code.bits % code.rows), values)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trellis, "CHUNK", chunk)
        assert np.array_equal(code.fold(torch.from_numpy(values).float()).numpy(), folded)


def test_it_does_not_matter_what_torch_records():
    """Memory of one call, made where torch prepares for no gradients, serves the next."""
    code, (a, b) = Trellis(600, 60, 8), target(600, 3)
    with torch.inference_mode():
        within = encode(code, a, b)
    assert np.array_equal(encode(code, a, b), within)
    with torch.no_grad():
        assert np.array_equal(encode(code, a, b), within)


@pytest.mark.parametrize("dims", [300, 20_000])
def test_a_beginning_of_the_message_gives_a_beginning_of_zeta(dims):
    code = Trellis(dims, 50, 8)
    message = encode(code, *target(dims, 1))
    whole, filling = decode(code, message, torch.zeros(dims)), torch.full((dims,), 9.0)
    known_before = -1
    for n in range(51):
        zeta = decode(code, message[:n], filling)
        known = zeta != 9
        assert torch.equal(zeta[known], whole[known])
        assert int(known.sum()) >= known_before
        known_before = int(known.sum())
    assert known_before == dims


@pytest.mark.parametrize(("bits", "least"), [(32, 0.86), (64, 0.88), (128, 0.90)])
def test_efficiency(bits, least):
    """e = (E<delta, zeta>/|delta|)^2 / (2 ln 2 bits), all bits counted; a few draws, so a little below the figures."""
    g = torch.Generator().manual_seed(bits)
    reach = []
    for _ in range(30):
        delta = torch.randn(1024, generator=g)
        code = Trellis(1024, bits, 12)
        zeta = decode(code, encode(code, delta, torch.zeros(1024)), torch.zeros(1024))
        reach.append(float(delta @ zeta / delta.norm()))
    assert np.mean(reach) ** 2 / (2 * math.log(2) * bits) >= least - 0.02


def test_zeta_has_the_moments_of_q():
    """At as many bits as KL: nearly |delta| along delta, and variance 1 across it."""
    g = torch.Generator().manual_seed(0)
    along, across = [], []
    for _ in range(20):
        delta = torch.randn(2000, generator=g)
        delta *= (2 * math.log(2) * 80) ** 0.5 / delta.norm()
        code = Trellis(2000, 80, 10)
        zeta = decode(code, encode(code, delta, torch.zeros(2000)), delta)
        projection = float(delta @ zeta / delta.norm())
        along.append(projection / float(delta.norm()))
        across.append(float((zeta @ zeta - projection**2) / 1999))
    assert 0.9 < np.mean(along) < 1
    assert np.mean(across) == pytest.approx(1, abs=0.03)


def test_impossible_shapes_are_refused():
    with pytest.raises(ValueError, match="0 to 4 bits"):
        Trellis(4, 5)


def test_a_long_message_in_stretches_is_as_good_as_one_path():
    """Cut into stretches, the path is worth what the single closed path is worth, to a thousandth."""
    code = Trellis(12000, 4500, 6)
    a = torch.randn(12000, generator=torch.Generator().manual_seed(0))
    values = []
    for stretch in (viterbi.STRETCH, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(viterbi, "STRETCH", stretch)
            message = encode(code, a, torch.zeros_like(a))
        values.append(float(a @ decode(code, message, torch.zeros_like(a))))
    assert values[0] == pytest.approx(values[1], rel=1e-3)


@pytest.mark.parametrize("memory", range(6))
def test_opposed_labels_are_opposite_where_branches_leave_or_meet(memory):
    code = Trellis(50, 12, memory)
    table, states = code.table("cpu"), 2**code.memory
    assert torch.equal(table[:, states:], -table[:, :states])  # L and L + 2^M leave state L mod 2^M
    assert torch.equal(table[:, 1::2], -table[:, 0::2])  # 2w and 2w + 1 meet in state w
    pairs = table[:, :states:2].T  # else they have nothing to do with each other
    assert len({tuple(row) for pair in pairs for row in (pair.tolist(), (-pair).tolist())}) == 2 * len(pairs)


def test_opposed_labels_are_worth_a_bit_of_register():
    """A register of 8 bits does better than one of 9 with labels at random, in the correlation of zeta with delta."""
    dims, bits = 3000, 250
    r = 4 ** (bits / dims) - 1  # a bit for each bit of KL
    deltas = r**0.5 * torch.randn(20, dims, generator=torch.Generator().manual_seed(0))
    correlation = []
    for code in (Trellis(dims, bits, 8), Relabelled(dims, bits, 9, kind=RandomLabels)):
        sent = [encode(code, (1 + r) ** 0.5 * delta, torch.full((dims,), -r / 2)) for delta in deltas]
        zetas = torch.stack([decode(code, message, torch.zeros(dims)) for message in sent])
        correlation.append(float((deltas * zetas).sum() / (deltas.norm() * zetas.norm())))
    assert correlation[0] > correlation[1]


def test_folded_stages_take_labels_from_a_sphere():
    code = Trellis(100_000, 100, 8)
    assert (code.rows, code.on_sphere) == (64, True)
    norms = code.table("cpu").square().sum(0)
    torch.testing.assert_close(norms, torch.full_like(norms, 64), rtol=2e-3, atol=0)
    assert not Trellis(100_000, 1000, 8).on_sphere
    efficiency, power = [], []
    for seed in range(12):
        delta = torch.randn(100_000, generator=torch.Generator().manual_seed(seed))
        delta *= (2 * math.log(2) * code.bits) ** 0.5 / delta.norm()
        zeta = decode(code, encode(code, delta, torch.zeros_like(delta)), torch.zeros_like(delta))
        efficiency.append(float((delta @ zeta / delta.norm()) ** 2 / (2 * math.log(2) * code.bits)))
        power.append(float(zeta.square().mean()))
    assert 0.8 < np.mean(efficiency) < 0.95
    assert np.mean(power) == pytest.approx(1, abs=0.005)


def best_closed_path(code, a, b):
    """The largest a zeta + b zeta^2 of all messages, by an exhaustive search of the trellis in float64."""
    M, table = code.memory, code.table("cpu").double().numpy()
    metrics = code.fold(a).double().numpy() @ table + code.fold(b).double().numpy() @ table**2
    branch = np.arange(2 ** (M + 1))
    best = -np.inf
    for start in range(2**M):
        value = np.full(2**M, -np.inf)
        value[start] = 0
        for metric in metrics:
            reached = value[branch % 2**M] + metric
            value = reached.reshape(-1, 2).max(1)
        best = max(best, value[start])
    return best


@pytest.mark.parametrize("tail", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("dims", "bits"), [(120, 40), (2000, 25), (90, 60)])
def test_integers_find_nearly_the_best_of_all_closed_paths(dims, bits, tail):
    """Also where a few dimensions matter far more than others: their stages set the scale of the integers."""
    code = Trellis(dims, bits, 5)
    g = torch.Generator().manual_seed(dims)
    a = torch.randn(dims, generator=g) * torch.exp(tail * torch.randn(dims, generator=g))
    b = -0.2 * torch.rand(dims, generator=g)
    zeta = decode(code, encode(code, a, b), torch.zeros(dims))
    assert metric(a, b, zeta) >= best_closed_path(code, a, b) * 0.99


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e4])
def test_the_scale_of_the_metric_does_not_matter(scale):
    code = Trellis(600, 200, 8)
    a, b = target(600, 7)
    a, b = scale * a, scale * b
    assert np.array_equal(encode(code, a, b), encode(code, *target(600, 7)))


def test_nothing_to_say_is_said():
    code = Trellis(600, 200, 8)
    assert encode(code, torch.zeros(600), torch.zeros(600)).shape == (200,)


def test_stretches_do_not_depend_on_the_number_of_threads(monkeypatch):
    code, (a, b) = Trellis(9000, 5000, 6), target(9000, 3)
    messages = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(viterbi, "cpu_count", lambda cores=cores: cores)
        messages.append(encode(code, a, b))
    assert np.array_equal(messages[0], messages[1])
    assert np.array_equal(messages[0], messages[2])


def test_libraries_keep_their_threads(monkeypatch):
    threads, (a, b) = torch.get_num_threads(), target(9000, 3)
    try:
        torch.set_num_threads(3)
        encode(Trellis(9000, 5000, 6), a, b)
        assert torch.get_num_threads() == 3
        monkeypatch.setattr(viterbi.OnCpu, "only", None)
        with pytest.raises(TypeError):
            encode(Trellis(9000, 5000, 6), a, b)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("memory", [12, 14, 16])
def test_labels_put_together_differ_in_all_groups_but_one(memory):
    """Of two states' labels at most one part is the same, each comes from its table, and branches are opposed."""
    of = Labels(memory)
    places = of.places().numpy()
    assert places.shape == (labels.GROUPS, 2 ** (memory - 1))
    rng = np.random.default_rng(0)
    v, others = rng.integers(0, 2 ** (memory - 1), (2, 100_000))
    same = (places[:, v] == places[:, others]).sum(0)
    assert same[v != others].max() == 1
    upper = np.arange(2 ** (memory - 1) // 1024)  # the likeliest to meet: the same lower bits but for those above RUN
    for k, j in product(upper, upper):
        lower = np.arange(0, 1024, 32)
        met = (places[:, k * 1024 + lower][:, :, None] == places[:, j * 1024 + lower][:, None]).sum(0)
        assert met.max() <= (1 if k != j else labels.GROUPS)
    branch = torch.from_numpy(rng.integers(0, 2 ** (memory + 1), 50))
    v = (branch.numpy() & 2**memory - 1) >> 1
    for rows, sphere in ((1, False), (6, False), (64, False), (64, True)):
        of = Labels(memory, sphere)
        h, table = of(branch, rows), of.table(rows, branch.device)
        assert torch.equal(h, -of(branch ^ 1, rows))
        assert torch.equal(h, -of(branch ^ 2**memory, rows))
        for j in range(rows):
            assert torch.equal(h[j].abs(), table[j, places[j % labels.GROUPS, v]].abs())
        if sphere:
            assert torch.allclose((h**2).sum(0), torch.full((50,), 64.0), rtol=1e-3)  # on a grid


@pytest.mark.parametrize("memory", [11, 13, 16])
@torch.inference_mode()
def test_metrics_are_those_of_the_labels(memory):
    """Summed along a path they say what its zeta is worth; in units of their scale, rounded."""
    code = Trellis(7 * 300, 300, memory)
    a, b = target(code.dims, 0, 0.5)
    metrics = Metrics(code, a, b)
    bits = np.random.default_rng(1).integers(0, 2, code.bits)
    closed, M = np.concatenate([bits[-code.memory :], bits]), code.memory
    places, total = metrics.labels.places().numpy(), 0.0
    branches = [int(closed[s : s + M + 1] @ 2 ** np.arange(M + 1)) for s in range(code.bits)]
    blocks = np.concatenate([block.copy() for block in metrics(np.arange(code.bits)[:, None])])[:, 0]
    full = torch.cat([block.clone() for block in metrics.products(np.arange(code.bits)[:, None], 64)])[:, 0]
    for s, branch in enumerate(branches):
        u = branch & 2**M - 1
        kind = (branch >> M) ^ (u & 1)
        found = sum(int(blocks[s, kind, k, at]) for k, at in enumerate(places[:, u >> 1]))
        assert found == pytest.approx(float(full[s, kind * 2 ** (M - 1) + (u >> 1)]), rel=0.02, abs=4)
        total += found
    zeta = code.unfold(code.labels(torch.tensor(branches), code.rows).T)
    worth = float((a * zeta + b * (zeta**2 - 1)).double().sum())
    assert total / metrics.scale == pytest.approx(worth, abs=3)  # other paths are 25 apart; products are rounded


def test_a_longer_register_is_better():
    """With labels put together as with those that are drawn."""
    reached = []
    for memory in (10, 13, 16):
        code = Trellis(2400, 600, memory)
        a, b = target(code.dims, 3, 0.5)
        reached.append(metric(a, b, decode(code, encode(code, a, b), torch.zeros(code.dims))))
    assert reached == sorted(reached)


def test_tables_allow_what_there_are_labels_for():
    assert labels.MEMORY == tables.MEMORY
