"""The exact local network a second time, written from docs/exact.md alone: plain NumPy, slow, in the page's words.

Maps are (C, H, W). Sums of integers are int64, so no order and no size matters; every other operation is one of NumPy's
on float32 or float64, one at a time.
"""

import math
import zlib

import numpy as np

from ddpm.networks.local import LocalConfig

F32, F64, I64 = np.float32, np.float64, np.int64
FINE = 1 << 15  # the zero of a convolution that reads 16 bits


def silu_table() -> np.ndarray:
    """Of i = -8192 ... 8191, so that i stands at i + 8192."""
    x = [i / 512 for i in range(-8192, 8192)]
    return np.array([round(2**14 * v / (1 + math.exp(-v))) / 2**14 for v in x], F32)


def wave_table() -> np.ndarray:
    return np.array([round(127 * math.sin(2 * math.pi * i / 4096)) for i in range(4096)], I64)


SILU, WAVE = silu_table(), wave_table()


def clip16(v: np.ndarray) -> np.ndarray:
    return np.clip(v, -32768, 32767).astype(I64)


def halves(v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of int16 numbers."""
    return v // 256, v - 256 * (v // 256)


def of_channel(v: np.ndarray) -> np.ndarray:
    """(C,) beside maps (C, H, W)."""
    return v[:, None, None]


def fold(x: np.ndarray, p: int) -> np.ndarray:
    """(C, p H, p W) -> (p p C, H, W): the pixels of a position, row by row."""
    return np.concatenate([x[:, i::p, j::p] for i in range(p) for j in range(p)])


def unfold(x: np.ndarray, p: int) -> np.ndarray:
    """(p p C, H, W) -> (C, p H, p W)."""
    c, h, w = len(x) // p**2, *x.shape[1:]
    out = np.empty((c, p * h, p * w), x.dtype)
    for i in range(p):
        for j in range(p):
            out[:, i::p, j::p] = x[(i * p + j) * c :][:c]
    return out


def sums(x: np.ndarray, weight: np.ndarray, stride: int = 1) -> np.ndarray:
    """What a convolution adds up, in int64; 3x3 ones are padded with 0. x (I, H, W), weight (O, I, k, k)."""
    k = weight.shape[-1]
    pad = k // 2 if stride == 1 else 0
    x = np.pad(x.astype(I64), ((0, 0), (pad, pad), (pad, pad)))
    around = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(1, 2))[:, ::stride, ::stride]
    out = np.tensordot(weight.astype(I64), around, ((1, 2, 3), (0, 3, 4)))
    assert np.abs(out).max(initial=0) < 1 << 24
    return out


class Reference:
    def __init__(self, config: LocalConfig, tensors: dict[str, np.ndarray], level: int):
        self.config, self.tensors, self.l = config, tensors, level

    def input(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The channels that ``first`` reads: higher halves and waves; lower halves."""
        high, low = halves(clip16(np.rint(z * self.tensors["first.scale"][self.l])))
        t = np.clip(np.rint(F32(65536) * z), -(2**29), 2**29).astype(I64)
        waves = [WAVE[(2**n * t + quarter) % 4096] for n in (0, 1) for quarter in (0, 1024)]
        return fold(np.concatenate([high, *waves]), self.config.patch), fold(low, self.config.patch)

    def wide(self, name: str, high: np.ndarray, low: np.ndarray, stride: int = 1) -> np.ndarray:
        """v of a wide convolution, float32."""
        upper, rest = np.split(self.tensors[name + ".weight"], 2)
        h, h_rest = sums(high, upper, stride).astype(F32), sums(high, rest, stride).astype(F32)
        if name == "first":
            pixels = self.config.patch**2
            upper, rest = (
                part.reshape(len(part), pixels, -1, 3, 3)[:, :, :3].reshape(len(part), 3 * pixels, 3, 3)
                for part in (upper, rest)
            )
        l, l_rest = sums(low, upper, stride).astype(F32), sums(low, rest, stride).astype(F32)
        gain, shift = of_channel(self.tensors[name + ".gain"]), of_channel(self.tensors[name + ".shift"])
        return (F32(256) * (F32(128) * h + h_rest) + (F32(128) * l + l_rest)) * gain + shift

    def wide16(self, name: str, high: np.ndarray, low: np.ndarray, stride: int = 1) -> np.ndarray:
        return clip16(np.rint(self.wide(name, high, low, stride)))

    def conv(self, name: str, v: np.ndarray) -> np.ndarray:
        """(S scale unit) + shift of a block's convolution that reads v, float32, as its limits allow."""
        zero, weight = int(self.tensors[name + ".zero"][0]), self.tensors[name + ".weight"]
        if zero == FINE:
            high, low = halves(clip16(np.rint(v)))
            s = (256 * sums(high, weight) + sums(low, weight)).astype(F32)
        else:
            s = sums(np.clip(np.rint(v), -zero, 255 - zero).astype(I64), weight).astype(F32)
        unit, shift = self.tensors[name + ".unit"], self.tensors[name + ".shift"]
        return s * of_channel(self.tensors[name + ".scales"][self.l] * unit) + of_channel(shift)

    def block(self, name: str, x: np.ndarray) -> np.ndarray:
        c, of = len(x), {key: self.tensors[f"{name}.{key}"] for key in ("floor", "gain", "shift", "rate")}
        total, squares = x.sum(0), (x * x).sum(0)
        rate = (F64(1) / np.sqrt((c * squares - total**2).astype(F64) + of["floor"])).astype(F32)
        n = (c * x - total).astype(F32) * rate
        scale = self.tensors[name + ".conv1.scales"][self.l]
        g, h = (of_channel(of[key][self.l].astype(F32) / scale) for key in ("gain", "shift"))
        i = np.clip(np.rint(self.conv(name + ".conv1", n * g + h)), -8192, 8191).astype(I64)
        read = SILU[i + 8192] * of_channel(of["rate"] / self.tensors[name + ".conv2.scales"][self.l])
        return clip16(x + np.rint(self.conv(name + ".conv2", read)))

    def level(self, name: str, x: np.ndarray, i: int = 0) -> np.ndarray:
        for j in range(self.config.down[i]):
            x = self.block(f"{name}.down.{j}", x)
        if i + 1 < len(self.config.widths):
            h = self.wide16(name + ".shrink", *halves(x), stride=2)
            h = self.level(name + ".coarser", h, i + 1)
            x = clip16(x + unfold(self.wide16(name + ".grow", *halves(h)), 2))
        for j in range(self.config.up[i]):
            x = self.block(f"{name}.up.{j}", x)
        return x

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = self.level("levels", self.wide16("first", *self.input(z)))
        out = unfold(self.wide("last", *halves(x)), self.config.patch)
        return out[:3], out[3:]


def reference(
    config: LocalConfig, tensors: dict[str, np.ndarray], z: np.ndarray, level: int
) -> tuple[np.ndarray, np.ndarray]:
    """h_eps and h_m, (3, H, W) float32, of z (3, H, W) float32 at the noise level of this index."""
    return Reference(config, tensors, level)(z)


def check(config: LocalConfig, tensors: dict[str, np.ndarray]) -> int:
    """CRC-32 of answers, as a model has it."""
    n, height, width = len(tensors["gammas"]), 3 * config.stride, 2 * config.stride
    values = [(2654435761 * i // 256) % 4096 / 1024 - 2 for i in range(3 * height * width)]
    z, crc = np.array(values, F32).reshape(3, height, width), 0
    for level in sorted({0, n // 2, n - 1}):
        for h in reference(config, tensors, z, level):
            crc = zlib.crc32(h.astype("<f4").tobytes(), crc)
    return crc
