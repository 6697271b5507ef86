"""The figures of Ho et al. 2020: how many pictures they have, and what they cost."""

import pytest
import torch

from ddpm.diffusion.figures import NUMBERS, Figure, to_pictures
from ddpm.diffusion.reverse import Reverse
from ddpm.diffusion.schedule import LinearGamma


class Nothing(torch.nn.Module):
    """A network that believes in eps = 0."""

    schedule, device = LinearGamma(), torch.device("cpu")

    def forward(self, z, gamma):
        return torch.zeros_like(z), torch.zeros_like(z)


@pytest.mark.parametrize(
    ("kind", "number", "at", "rows", "columns"),
    [
        ("grid", 5, (), 2, 3),
        ("progressive", 2, (1, 0.5, 0), 2, 3),
        ("shared", 3, (0.5, 0.25), 2, 4),
        ("interpolate", 3, (0.5, 0.25), 2, 5),
    ],
)
@pytest.mark.parametrize("batch", [1, 4])
def test_a_figure_has_the_pictures_and_the_evaluations_that_it_says(kind, number, at, rows, columns, batch):
    figure = Figure.usual(kind, number, at)
    assert (figure.rows, figure.columns) == (rows, columns)
    assert figure.pictures == (number if kind == "grid" else rows * columns)
    reverse, calls = Reverse(Nothing()), []
    gammas, pair = reverse.levels(9), torch.zeros(2, 3, 4, 6) if kind == "interpolate" else None
    pictures = list(figure.draw(reverse, gammas, (4, 6), pair=pair, batch=batch, progress=calls.append))
    assert [p.shape for p in pictures] == [(4, 6, 3)] * figure.pictures
    assert sum(calls) == figure.evaluations(gammas)


def test_the_paper_s_figures():
    for kind, number in NUMBERS.items():
        assert Figure.usual(kind).number == number
    assert Figure.usual("progressive").at[::10] == (1, 0)
    assert Figure.usual("progressive").columns == 11
    assert Figure.usual("shared").at == Figure.usual("interpolate").at == (0.9, 0.75, 0.6, 0.45)


def test_pictures_of_any_stack():
    x = torch.linspace(-1, 1, 2 * 3 * 3 * 4 * 5).view(2, 3, 3, 4, 5)
    assert to_pictures(x).shape == (6, 4, 5, 3)
    assert (to_pictures(x)[0, 0, 0, 0], to_pictures(x)[-1, -1, -1, -1]) == (0, 255)
