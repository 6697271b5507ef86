"""Pictures of one size on their way into files: what each of them shall be, by the target, and its bytes."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch

from codec.channel.simulation import Channel, TrellisChannel
from codec.format import stored
from codec.format.container import METADATA, TRAILER, Header, pack_part
from codec.format.file import NOBODY, Maker, pack
from codec.images import alpha
from codec.images.pictures import Picture
from codec.lossless import last
from codec.lossless.adaptive import handover
from codec.lossy.multipass import Job, Sender, Sent
from codec.lossy.plan import MEAN
from codec.lossy.progressive import Progress
from codec.lossy.setting import Setting
from codec.lossy.shortest import among_lengths, among_rungs

from .errors import CodecError
from .target import Target

TINY = 32  # bytes, at most, of a file that no coded one beats
SIMPLE = 256  # bytes, at most, in which a simple picture can be stored
RUNGS = 25  # sizes of its files are so many bytes and more one by one, then ever ...
RUNG = 1.06  # ... so many times the one before
FEW = 1 << 8  # pixels, at most, of a picture of which every length is tried that may reach a PSNR and is ...
SHORTER = 0.97  # ... at most so much of what was found
PIXELS = 1.2  # bits/dim that the pixels take, given the chain, at the least


@dataclass(frozen=True)
class Encoded:
    """One file and what the encoder knows of it. mse in squared grey levels over all dims, of the ``mean`` picture."""

    data: bytes
    dims: int
    pixels: int
    mse: float
    ideal_bits: float  # sum of KL along the chain that was sent
    payload_bits: int
    seconds: float
    mode: str

    @property
    def bits_per_dim(self) -> float:
        return 8 * len(self.data) / self.dims

    @property
    def psnr(self) -> float:
        """dB, of RGB (or grey) from the mean squared error; infinite if it is lossless."""
        return psnr(self.mse)


def psnr(mse: float) -> float:
    """dB from the mean squared error in grey levels."""
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


class Encoder:
    """``pictures`` of one shape, in a setting.

    store: whether lossless files may have the picture as it is, where that is shorter. learns: whether the chain of
    small pictures too hands over to a code that learns. progress: called with 1 after each step of a batch.
    """

    def __init__(
        self,
        setting: Setting,
        pictures: Sequence[Picture],
        *,
        channel: type[Channel] = TrellisChannel,
        store: bool = True,
        learns: bool = False,
        progress: Progress | None = None,
    ):
        self.handover = handover(setting, 0) if learns else handover(setting)
        self.setting, self.model, self.plan = setting, setting.model, setting.plan
        self.channel, self.store, self.progress = channel, store, progress
        self.maker = Maker.of(self.model)
        self.arrays, self.alphas = zip(*(alpha.split(p.array) for p in pictures))
        self.pictures, self.height, self.width = pictures, *self.arrays[0].shape[:2]
        self.grey, self._kept = setting.grey, {}
        self.metadata = [
            {name: data for name in ("icc", "exif", "xmp") if (data := getattr(p, name))} for p in pictures
        ]
        for metadata in self.metadata:
            for name, data in metadata.items():
                if len(data) > METADATA:
                    raise CodecError(f"its {name} has {len(data)} bytes; at most {METADATA} have a place")
            if "icc" in metadata:
                metadata["icc"] = zlib.compress(metadata["icc"], 9)

    def encode(self, target: Target) -> list[Encoded]:
        """A file of each picture, or with an ideal channel none, but what it would cost."""
        every, by_quality = range(len(self.pictures)), target.quality is not None
        target = target.resolved(self.plan.gammas)
        if not self.channel.writes:
            return [self.walked(s) for s in self.sender(every).fed([self.job(i, i, target) for i in every])]
        fits = [target.lossless or self.fits(i, target) for i in every]
        lossless, others = ([i for i in every if fits[i] == wanted] for wanted in (True, False))
        found = dict(zip(lossless, self.lossless_files(lossless) if lossless else []))
        found |= dict(zip(others, self.lossy(others, target)))
        return [self.no_larger(i, found[i]) if by_quality else found[i] for i in every]

    def fits(self, i: int, target: Target) -> bool:
        """Whether the picture itself goes into the bytes that are asked for."""
        room = target.file_bytes(self.plan.dims, self.height * self.width, self.least(i))
        if math.isinf(room) or not self.store or stored.about(self.array(i)) > 4 * room:
            return False
        return len(self.kept(i).data) <= room

    def job(self, j: int, i: int, target: Target) -> Job:
        """Number j of a sender, which is picture i, as far as the target's steps or bytes go."""
        room = target.file_bytes(self.plan.dims, self.height * self.width, self.least(i))
        return Job(j, 8 * (room - self.least(i)), steps=target.steps)

    def lossy(self, those: Sequence[int], target: Target) -> list[Encoded]:
        """Files of these pictures, lossless ones where that is what the target comes to."""
        if not those:
            return []
        sender, out, usual = self.sender(those), {}, []
        for j, i in enumerate(those):
            job = self.job(j, i, target)
            if target.mse is not None:
                out[j] = self.reaching(i, j, sender, target.mse)
            elif math.isfinite(job.budget) and job.budget > self.lossless_bits(sender, j, PIXELS):
                lossless = self.lossless_files([i])[0]
                out[j] = lossless if 8 * (len(lossless.data) - self.least(i)) <= job.budget else None
            elif math.isfinite(job.budget) and (rungs := self.rungs(i, job.budget)):
                out[j] = self.file(i, sender.best_of_rungs(j, rungs)[-1])
            if out.get(j) is None:
                usual.append((i, job))
        for (i, job), sent in zip(usual, sender.fed([job for _, job in usual])):
            out[job.picture] = self.file(i, sent)
        return [out[j] for j in range(len(those))]

    def reaching(self, i: int, j: int, sender: Sender, mse: float) -> Encoded:
        """The smallest file that is as close as ``mse``; a lossless one if no other that is smaller is."""
        rungs = self.rungs(i, math.inf)
        file = self.on_a_rung(i, j, sender, mse) if rungs else self.coming_down(i, j, sender, mse)
        if not rungs and self.height * self.width > FEW:
            return file
        # What rates give that are lower; up to ``least`` bits that is rungs, if there are any.
        least = self.lossless_bits(sender, j, PIXELS) if rungs else -1
        room = 8 * (int(SHORTER * len(file.data)) - self.least(i))
        sent = among_lengths(sender, j, [bits for bits in range(room, -1, -8) if bits > least], mse)
        return file if sent is None else self.file(i, sent)

    def on_a_rung(self, i: int, j: int, sender: Sender, mse: float) -> Encoded:
        """Of a simple picture the file on the first rung that reaches ``mse``, or a lossless one that is no larger."""
        sent = among_rungs(sender, j, self.rungs(i, math.inf), mse)
        if sent is not None and sent.bits <= self.lossless_bits(sender, j, PIXELS):
            return self.file(i, sent)
        lossless = self.lossless_files([i])[0]
        return lossless if sent is None else min(lossless, self.file(i, sent), key=lambda file: len(file.data))

    def coming_down(self, i: int, j: int, sender: Sender, mse: float) -> Encoded:
        """The file at the end of ``Sender.smallest``, or a lossless one that is no larger."""
        lossless: list[Encoded] = []

        def limit():
            lossless.extend(self.lossless_files([i]))
            return 8 * (len(lossless[0].data) - self.least(i))

        sent = sender.smallest(j, mse, limit)
        found = lossless + ([] if sent is None else [self.file(i, sent)])
        return self.no_larger(i, min(found, key=lambda file: len(file.data)))

    def no_larger(self, i: int, file: Encoded) -> Encoded:
        """The file, or the one that has the picture as it is, if that is smaller."""
        if not self.store or stored.about(self.array(i)) >= 2 * len(file.data):
            return file
        return min(file, self.kept(i), key=lambda file: len(file.data))

    def lossless_bits(self, sender: Sender, j: int, pixels: float) -> float:
        """Bits of the lossless payload, if the pixels take so many bits/dim beside the chain."""
        steps = self.handover or self.plan.steps
        return self.setting.tables.surplus * sender.cost[j][steps] + pixels * self.plan.dims

    def rungs(self, i: int, budget: float) -> list[float]:
        """Bits of payload of the sizes that files of a simple picture have, up to ``budget``; of others none."""
        if not self.store or stored.about(self.array(i)) > 2 * SIMPLE or len(self.kept(i).data) > SIMPLE:
            return []
        least = self.least(i)
        size, out = least, []
        while size < len(self.kept(i).data) and 8 * (size - least) <= budget:
            out.append(8.0 * (size - least))
            size = size + 1 if size < RUNGS else max(size + 1, int(size * RUNG))
        return out

    def lossless_files(self, those: Sequence[int]) -> list[Encoded]:
        """Lossless files, each the shorter of the model's and the one that stores the picture."""
        if not self.store:
            return self.coded_lossless(self.sender(those), range(len(those)), those)
        about = [stored.about(self.array(i)) for i in those]
        if max(about) <= 8 * TINY and all(len(self.kept(i).data) <= TINY for i in those):
            return [self.kept(i) for i in those]
        sender = self.sender(those)
        # Others are never shorter.
        worth = [j for j, size in enumerate(about) if 8 * size > self.lossless_bits(sender, j, 0) / 2]
        with ThreadPoolExecutor(1) as beside:  # an image format's search takes one core some time
            kept = [beside.submit(self.kept, i) for i in those]
            coded = dict(zip(worth, self.coded_lossless(sender, worth, those) if worth else []))
            found = [file.result() for file in kept]
        return [min(coded.get(j, file), file, key=lambda file: len(file.data)) for j, file in enumerate(found)]

    def coded_lossless(self, sender: Sender, which: Sequence[int], those: Sequence[int]) -> list[Encoded]:
        """Files of ``those`` pictures that the sender has under these numbers, by the model."""
        jobs = [Job(j, steps=self.handover) for j in which]
        return [self.file(those[job.picture], sent, lossless=True) for job, sent in zip(jobs, sender.fed(jobs))]

    def sender(self, those: Sequence[int]) -> Sender:
        """Of these pictures."""
        values = np.stack([np.repeat(a[..., None], 3, 2) if self.grey else a for a in (self.arrays[i] for i in those)])
        values = torch.from_numpy(values).permute(0, 3, 1, 2)
        return Sender(self.setting, values, self.channel, self.progress)

    def array(self, i: int) -> np.ndarray:
        return self.pictures[i].array

    def least(self, i: int) -> int:
        """Bytes of the smallest lossy file."""
        header = self.header(i, "lossy").pack(self.maker.native)
        return len(header) + sum(len(pack_part(header, part)) for part in self.metadata[i].values()) + TRAILER

    def header(self, i: int, mode: str, profile=MEAN, steps=0) -> Header:
        extras, size = tuple(self.metadata[i]), (self.height, self.width)
        if mode == "stored":
            return Header(b"", *size, profile, 0, self.grey, 0, mode, extras, stored.colour_of(self.arrays[i]))
        where = self.model.fingerprint[:2], *size, profile, steps, self.grey, self.setting.seed
        return Header(*where, mode, extras, stride=self.plan.stride)

    def kept(self, i: int) -> Encoded:
        """The file that has the picture as it is."""
        if i not in self._kept:
            picture, dims = stored.pack(self.array(i)), self.plan.dims
            data = self.sealed(i, self.header(i, "stored"), b"", b"", {"picture": picture})
            bits = 8 * len(picture)
            self._kept[i] = Encoded(data, dims, self.height * self.width, 0.0, 0.0, bits, 0.0, "stored")
        return self._kept[i]

    def file(self, i: int, sent: Sent, *, lossless=False) -> Encoded:
        """The file of what was sent."""
        by, parts, mode = sent.allotment, {}, "lossy"
        if lossless:
            z = sent.stream.z
            assert z is not None  # the chain has come to its end
            mode = "lossless"
            if self.alphas[i] is not None:
                mode, parts["alpha"] = "lossless, with alpha", alpha.pack(self.alphas[i])
            parts["pixels"] = last.encode(self.setting, by.steps, z, self.arrays[i])
        header = self.header(i, mode, by.profile, by.steps)
        data = self.sealed(i, header, by.corrections, np.packbits(sent.stream.bits).tobytes(), parts)
        return replace(self.walked(sent), data=data, mse=0.0 if lossless else sent.mse, mode=mode)

    def walked(self, sent: Sent) -> Encoded:
        """What the chain shows, without a file."""
        bits = sum(sent.stream.kl)
        return Encoded(b"", self.plan.dims, self.height * self.width, sent.mse, bits, sent.bits, 0.0, "lossy")

    def sealed(self, i: int, header: Header, corrections: bytes, messages: bytes, parts: dict[str, bytes]) -> bytes:
        """The file, with what the picture has beside its pixels."""
        return pack(header, corrections, messages, parts | self.metadata[i], NOBODY if header.stored else self.maker)
