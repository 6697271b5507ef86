"""The schedule of noise by frequency for photographs.

What more of a band's SNR takes from the squared error of the picture, -dD/dSNR, is E |C u|^2 over the band's directions
u, C = s dx_hat/dz the posterior covariance that the network implies (by finite differences). Where that is more, per
bit, than in other bands, noise falls sooner; where even the first bit would be worth less, it has not begun to fall.
From photo-5's network on training photographs, t from 8 to -6, and corrected once by what a bit is worth in each band
with photo-9 (``python -m bench.worth``); from there all come together.
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
3 1.199 .435 0 0 0 0 0 0 0 0 0 1.183 0 0 0 0 1.021 0 0 0 0
2 1.26 .783 .173 0 0 0 0 0 0 0 0 1.131 .097 0 0 0 1.004 0 0 0 0
1.5 1.302 .991 .464 .012 0 0 0 0 0 0 0 1.117 .182 0 0 0 .986 0 0 0 0
1 1.319 1.109 .719 .274 0 0 0 0 0 0 0 1.098 .271 0 0 0 .988 .06 0 0 0
.5 1.327 1.202 .936 .583 .142 0 0 0 0 0 0 1.084 .357 0 0 0 .976 .171 0 0 0
0 1.344 1.219 1.036 .775 .427 .001 0 0 0 0 0 1.099 .491 .079 0 0 .963 .261 0 0 0
-.5 1.364 1.213 1.089 .907 .682 .274 .012 0 0 0 0 1.099 .624 .228 0 0 .986 .34 0 0 0
-1 1.399 1.248 1.129 .989 .821 .523 .258 .012 0 0 0 1.107 .726 .367 0 0 1.023 .412 .074 0 0
-1.5 1.428 1.279 1.163 1.052 .93 .743 .526 .252 0 0 0 1.105 .817 .503 .112 0 1.043 .456 .203 0 0
-2 1.438 1.315 1.187 1.077 .993 .865 .708 .474 .17 .131 .055 1.125 .896 .644 .258 0 1.029 .53 .296 .003 0
-2.5 1.438 1.341 1.198 1.083 1.033 .946 .843 .662 .417 .192 .155 1.174 .961 .745 .341 0 1.002 .604 .353 .061 0
-3 1.428 1.346 1.223 1.113 1.062 .981 .903 .768 .576 .329 .253 1.198 .982 .798 .481 .062 1.001 .638 .416 .169 0
-3.5 1.418 1.342 1.246 1.13 1.073 1.005 .943 .841 .704 .461 .358 1.194 .993 .873 .611 .098 1.033 .671 .464 .253 .009
-4 1.384 1.316 1.237 1.135 1.092 1.03 .976 .896 .795 .596 .475 1.185 1.009 .921 .702 .196 1.043 .721 .541 .343 .084
-5 1.316 1.272 1.223 1.149 1.109 1.039 .992 .958 .912 .805 .66 1.182 1.05 .96 .842 .442 1.054 .795 .681 .516 .189
-6 1.281 1.245 1.202 1.141 1.101 1.036 .995 .962 .929 .859 .766 1.172 1.045 .956 .829 .516 1.056 .873 .725 .586 .268
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
