"""Small exact models with random tensors, in whose maps values neither all saturate nor vanish."""

import numpy as np

from ddpm.networks.local import LocalConfig

F32 = np.float32
LEVELS = 3  # of noise
CONFIGS = (
    LocalConfig(widths=(8, 16), down=(1, 1), up=(1, 1)),
    LocalConfig(widths=(4, 8, 12), down=(1, 0, 2), up=(2, 1, 0)),
    LocalConfig(widths=(6,), down=(1,), up=(0,)),
)
FINE = 1 << 15  # the zero of convolutions that read 16 bits
IN_MAPS = 3000.0  # about the standard deviation of maps
HIGH_OF_Z = 60.0  # of the higher halves of z at unit variance, and the waves


class Maker:
    """most: the largest weight. With ``even`` scales are powers of two and shifts multiples of 1/2, so that roundings
    have to do with ties everywhere."""

    def __init__(self, config: LocalConfig, seed: int, most: int = 127, even: bool = False):
        self.config, self.rng, self.most, self.even = config, np.random.default_rng(seed), most, even
        self.out: dict[str, np.ndarray] = {}

    def tensors(self) -> dict[str, np.ndarray]:
        folded, widths = 3 * self.config.patch**2, self.config.widths
        self.out["gammas"] = np.linspace(5, -9, LEVELS)
        self.out["first.scale"] = self.around(4096.0, LEVELS)
        self.wide("first", (widths[0], 5 * folded, 3), HIGH_OF_Z, IN_MAPS)
        self.level("levels", 0)
        self.wide("last", (2 * folded, widths[0], 3), IN_MAPS / 256, 1.0)
        return self.out

    def around(self, typical, shape=()) -> np.ndarray:
        """Scales of a size that is typical."""
        scales = typical * self.rng.uniform(0.5, 2, shape)
        return (2.0 ** np.rint(np.log2(scales)) if self.even else scales).astype(F32)

    def about_zero(self, typical: float, shape) -> np.ndarray:
        values = typical * self.rng.standard_normal(shape)
        return (np.rint(2 * values) / 2 if self.even else values).astype(F32)

    def weights(self, shape) -> np.ndarray:
        """One output has the largest weights only, another the least."""
        w = self.rng.integers(-self.most - 1, self.most + 1, shape)
        w[0], w[-1] = self.rng.choice([-self.most - 1, self.most], shape[1:]), self.rng.integers(-1, 2, shape[1:])
        return w.astype(np.int8)

    def wide(self, name: str, sizes: tuple[int, int, int], typical_in: float, typical_out: float) -> None:
        outputs, inputs, k = sizes
        weight = self.weights((2 * outputs, inputs, k, k))
        weight[outputs - 1] = self.weights(weight[:2].shape)[0]  # else the last is nearly nothing
        length = np.sqrt(np.square(weight[:outputs].astype(float)).sum((1, 2, 3)))
        self.out[name + ".weight"] = weight
        self.out[name + ".gain"] = self.around(typical_out / (256 * 128 * typical_in * length), outputs)
        self.out[name + ".shift"] = self.about_zero(typical_out / 10, outputs)

    def level(self, name: str, i: int) -> None:
        widths = self.config.widths
        for side in ("down", "up"):
            for j in range(getattr(self.config, side)[i]):
                self.block(f"{name}.{side}.{j}", widths[i])
        if i + 1 < len(widths):
            self.wide(name + ".shrink", (widths[i + 1], widths[i], 2), IN_MAPS / 256, IN_MAPS)
            self.wide(name + ".grow", (4 * widths[i], widths[i + 1], 1), IN_MAPS / 256, IN_MAPS)
            self.level(name + ".coarser", i + 1)

    def block(self, name: str, c: int) -> None:
        # From 1, the deviation after the norm, to entries of the table of SiLU; from about 1 to a part of the map.
        self.conv(name + ".conv1", c, 1200.0, (FINE, 128, 100))
        self.conv(name + ".conv2", c, IN_MAPS / 2, (FINE, 8, 24, 96))
        self.out[name + ".gain"] = self.around(1.0, (LEVELS, c)).astype(np.float16)
        self.out[name + ".shift"] = self.about_zero(0.3, (LEVELS, c)).astype(np.float16)
        self.out[name + ".rate"] = self.around(1.0, c)
        self.out[name + ".floor"] = np.array([c * c * 1e-5 * 4096.0**2])

    def conv(self, name: str, c: int, typical_out: float, zeros: tuple[int, ...]) -> None:
        zero = int(self.rng.choice(zeros))
        weight = self.weights((c, c, 3, 3))
        length = np.sqrt(np.square(weight.astype(float)).sum((1, 2, 3))).clip(1)
        self.out[name + ".weight"], self.out[name + ".zero"] = weight, np.array([zero], np.int32)
        self.out[name + ".scales"] = self.around(1 / 8000 if zero == FINE else 1 / 50, LEVELS)
        self.out[name + ".unit"] = self.around(typical_out / length, c)
        self.out[name + ".shift"] = self.about_zero(typical_out / 10, c)


def random_tensors(config: LocalConfig, seed: int, most: int = 127, even: bool = False) -> dict[str, np.ndarray]:
    """The tensors of an exact model, as docs/exact.md names them."""
    return Maker(config, seed, most, even).tensors()


def random_z(shape: tuple[int, ...], seed: int, size: float = 1.0, grain: float = 0.0) -> np.ndarray:
    """z of that standard deviation, float32; multiples of ``grain`` if there is one."""
    z = size * np.random.default_rng(seed).standard_normal(shape)
    return (grain * np.rint(z / grain) if grain else z).astype(F32)
