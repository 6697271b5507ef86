"""The schedule of noise by frequency for photographs.

What more of a band's SNR takes from the squared error of the picture, -dD/dSNR, is E |C u|^2 over the band's directions
u, C = s dx_hat/dz the posterior covariance that the network implies (by finite differences). Where that is more, per
bit, than in other bands, noise falls sooner; where even the first bit would be worth less, it has not begun to fall.
From photo-5's network on training photographs, t from 8 to -6; from there all come together.
"""

from __future__ import annotations

from ddpm.diffusion.bands import RINGS

CHROMA = (0, 1, 2, 3, 3, 4, 4, 4, 4, 4, 4)  # which of five numbers each ring of a colour has; grey has all of its own
VARIANCE = """
39.7 1.149 .391 .176 .0895 .055 .0336 .021 .012 .0079 .0044 7.97 .093 .0294 .0073 .0014 2.57 .0246 .0086 .0024 .0005
"""
RATIOS = """
8 1.002 .107 0 0 0 0 0 0 0 0 0 1 0 0 0 0 1 0 0 0 0
6 1.056 .312 0 0 0 0 0 0 0 0 0 1 0 0 0 0 1 0 0 0 0
5 1.083 .4 0 0 0 0 0 0 0 0 0 .999 0 0 0 0 1 0 0 0 0
4 1.141 .436 0 0 0 0 0 0 0 0 0 .977 0 0 0 0 .995 0 0 0 0
3 1.2 .485 0 0 0 0 0 0 0 0 0 .959 0 0 0 0 1.005 0 0 0 0
2 1.277 .786 .182 0 0 0 0 0 0 0 0 1.065 .124 0 0 0 1.005 0 0 0 0
1.5 1.326 .947 .474 .012 0 0 0 0 0 0 0 1.13 .288 0 0 0 .996 0 0 0 0
1 1.32 1.057 .725 .281 0 0 0 0 0 0 0 1.125 .43 0 0 0 1.001 .068 0 0 0
.5 1.305 1.142 .931 .594 .141 0 0 0 0 0 0 1.125 .567 0 0 0 .991 .212 0 0 0
0 1.307 1.158 1.03 .787 .425 .001 0 0 0 0 0 1.116 .693 .123 0 0 .963 .366 0 0 0
-.5 1.312 1.152 1.082 .918 .68 .273 .011 0 0 0 0 1.091 .779 .331 0 0 .969 .537 0 0 0
-1 1.338 1.163 1.11 .997 .82 .522 .245 .012 0 0 0 1.082 .842 .501 0 0 .997 .66 .115 0 0
-1.5 1.359 1.165 1.128 1.055 .931 .743 .507 .25 0 0 0 1.065 .89 .649 .17 0 1.01 .721 .316 0 0
-2 1.358 1.178 1.122 1.073 .987 .863 .695 .483 .168 .162 .069 1.078 .936 .769 .372 0 1.003 .799 .465 .005 0
-2.5 1.35 1.192 1.105 1.071 1.013 .941 .841 .689 .438 .278 .238 1.126 .978 .822 .455 0 .987 .859 .556 .105 0
-3 1.353 1.215 1.126 1.091 1.025 .97 .899 .792 .61 .464 .396 1.156 .99 .848 .584 .094 .989 .887 .628 .294 0
-3.5 1.356 1.231 1.146 1.098 1.02 .988 .936 .86 .751 .632 .569 1.159 .993 .895 .679 .146 1.024 .909 .668 .44 .018
-4 1.35 1.233 1.154 1.095 1.032 1.008 .965 .906 .831 .74 .688 1.159 1.01 .936 .745 .269 1.042 .924 .716 .532 .164
-5 1.33 1.235 1.169 1.102 1.046 1.012 .976 .957 .924 .87 .805 1.17 1.06 .97 .854 .513 1.069 .916 .794 .657 .312
-6 1.328 1.235 1.17 1.103 1.047 1.012 .977 .96 .929 .877 .811 1.171 1.063 .973 .86 .526 1.071 .916 .798 .664 .32
"""  # t, then as above


def of_bands(row: list[float]) -> list[float]:
    """Numbers of grey's rings and of five for each of two colours -> of all bands."""
    grey, others = row[:RINGS], (row[RINGS : RINGS + 5], row[RINGS + 5 :])
    return [*grey, *(of_colour[i] for of_colour in others for i in CHROMA)]


def numbers(text: str) -> list[list[float]]:
    return [[float(v) for v in line.split()] for line in text.strip().splitlines()]


def photo_bands(gamma_min: float) -> dict:
    """The schedule as a model's configuration has it."""
    rows, [variance] = numbers(RATIOS), numbers(VARIANCE)
    ratios = [of_bands(row[1:]) for row in rows]
    return {
        "kind": "bands",
        "nodes": [*(row[0] for row in rows), gamma_min],
        "ratios": [*ratios, [1.0] * len(ratios[0])],
        "variance": of_bands(variance),
        "block": 16,
        "sharpness": 0.15,
        "looks": [[3.9, 4], [2.3, 2]],  # as the tables of an isotropic model had them
    }
