import math

import numpy as np
import torch

from codec.calibrate import step_costs

from .conftest import smooth_picture


def test_the_network_works_at_a_smaller_size_where_that_costs_hardly_more(model):
    batch = torch.from_numpy(np.stack([smooth_picture(32, 32, s) for s in range(6)])).permute(0, 3, 1, 2)
    levels = [math.inf, *np.linspace(5, -9, 15)]
    whole, smaller = (step_costs(model, [batch], levels, scales=s, quiet=True) for s in ((1,), (1, 2, 4)))
    assert set(whole.scales) == {1}
    assert smaller.scales[0] == 1  # nothing is looked at there
    assert max(smaller.scales[1:5]) == 4
    assert smaller.scales[-3:] == [1, 1, 1]
    spent, least = (np.cumsum(costs.kl.mean(0)) for costs in (smaller, whole))
    assert (spent[3:] < 1.02 * least[3:]).all()
    assert len(smaller.bands) == len(smaller.scales) == len(levels) - 1
