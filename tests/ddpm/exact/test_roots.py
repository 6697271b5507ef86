import ast
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm.exact.roots import sqrt, sqrt_

ROOT = Path(__file__).parents[3]
# What torch leaves to libraries, on one processor or another.
LIBRARIES = {"sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log1p", "pow", "sin", "cos", "tanh", "erf"}
LIBRARIES |= {"sigmoid", "softmax", "log_softmax", "logsumexp", "erfinv", "lgamma"}
ROOMS = "codec/lossy", "codec/lossless", "codec/archive", "codec/randomness", "ddpm/exact"
OTHERS = {"codec/lossless/likelihood.py", "ddpm/exact/quantise.py", "ddpm/exact/normal.py"}  # one side; decimals


@pytest.mark.parametrize(("dtype", "kind"), [(torch.float32, np.float32), (torch.float64, np.float64)])
def test_roots_are_rounded_correctly(dtype, kind):
    x = torch.rand(2, 1024, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 4
    with localcontext(prec=60):
        for value, found in zip(x.flatten().tolist(), sqrt(x).flatten().tolist()):
            root, ulp = Decimal(value).sqrt(), Decimal(float(np.spacing(kind(found))))
            assert abs(Decimal(found) - root) <= ulp / 2
    part = x.clone()[:, ::3]
    assert sqrt_(part) is part
    assert torch.equal(part, sqrt(x)[:, ::3])
    odd = torch.tensor([0.0, -0.0, 9.0, torch.inf, -1.0, torch.nan], dtype=dtype)
    assert sqrt(odd).tolist()[:4] == [0.0, 0.0, 3.0, float("inf")]
    assert sqrt(odd)[4:].isnan().all()


def of_tensors(path: Path):
    """Calls in a file of what LIBRARIES names, but those of numpy, math, decimal and this package."""
    source = path.read_text()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr.rstrip("_") in LIBRARIES:
            base = ast.get_source_segment(source, node.func.value) or ""
            if (
                base not in ("np", "math", "functions", "root")
                and "Decimal" not in source.splitlines()[node.lineno - 1]
            ):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.get_source_segment(source, node)}"


def test_no_library_decides_a_digit_that_both_sides_need():
    files = [p for room in ROOMS for p in (ROOT / room).rglob("*.py") if str(p.relative_to(ROOT)) not in OTHERS]
    found = [call for path in files for call in of_tensors(path)]
    assert [call for call in found if not call.startswith("ddpm/exact/roots.py")] == []
    assert sum(call.startswith("ddpm/exact/roots.py") for call in found) == 1  # on other devices than a CPU
