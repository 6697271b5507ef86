"""The words that constriction makes of fixed symbols: a version that changes them would not read files made here.

Models as the codec uses them: Categorical from counts, Uniform, and Gaussians as tables.
"""

import hashlib

import numpy as np
import pytest
from constriction import stream

from codec.archive.bitsback import Stack
from codec.archive.gaussians import Gaussians, tables
from codec.lossless.entropy import FRACTIONS, HIGHEST, LOWEST, TOTAL, Reader, Writer, model_for

N = 500
PLACES = np.arange(N)
COUNTS = np.array([1, 3, 1 << 19, 40_000, 7, 1 << 18])


def spread(most: int, times: int = 48_271) -> np.ndarray:
    """N integers from 0 to ``most``, far from any pattern of the models."""
    return PLACES * times % 104_729 % (most + 1)


def digest(words: np.ndarray) -> str:
    """Of 32-bit words, in the order of a file."""
    return hashlib.sha256(words.astype("<u4").tobytes()).hexdigest()[:16]


MODELS = {
    "counts": (stream.model.Categorical(COUNTS.astype(np.float32), perfect=False), len(COUNTS)),
    "pixel near black": (model_for(5, 8, 3, 16), 21),
    "narrow pixel": (model_for(0, LOWEST, 3, 3), 8),
    "wide pixel": (model_for(FRACTIONS - 1, HIGHEST, 100, 114), 216),
    "byte": (stream.model.Uniform(256), 256),
    "tail": (stream.model.Uniform(TOTAL), TOTAL),
    "gaussian": (tables(9.5, 4)[1], 135),
    "wide gaussian": (tables(1024.0, 1)[0], 14_337),
}
WORDS = {
    "counts": [(161, "2ac302449742df7a"), (161, "ee13ab1be1ddc5eb")],
    "pixel near black": [(174, "58c711d15b29345e"), (175, "c89b4fc5b3c991ca")],
    "narrow pixel": [(268, "b397fad74b0a1d43"), (267, "869aa2c507e8d1f1")],
    "wide pixel": [(209, "eeac0b0c7dfd5d79"), (209, "3ca64f4219b24103")],
    "byte": [(126, "d2a61a98e4f00bf8"), (126, "13c2e5ceb740e8f6")],
    "tail": [(313, "76a0fdfa857e9df9"), (313, "0e0992cdc897e950")],
    "gaussian": [(227, "7c908ca68675652f"), (228, "cfc1d0cbeed4e629")],
    "wide gaussian": [(298, "ab7b2224ca7c30a9"), (298, "d390abec62956176")],
}
SHORT = {"RangeEncoder": [1728551843, 2399935616, 1651491802], "AnsCoder": [1140850689, 130575694, 1423921]}
PIXELS = (1144, "0356902eddb9b16b")
STACK = [(214, "3cbd1ca680d98c1d")]


@pytest.mark.parametrize("name", MODELS)
def test_words_of_each_model(name):
    model, size = MODELS[name]
    symbols = (spread(TOTAL - 1) % size).astype(np.int32)
    queue, stack = stream.queue.RangeEncoder(), stream.stack.AnsCoder()
    queue.encode(symbols, model)
    stack.encode_reverse(symbols, model)
    made = [coder.get_compressed() for coder in (queue, stack)]
    assert np.array_equal(stream.queue.RangeDecoder(made[0]).decode(model, N), symbols)
    assert np.array_equal(stream.stack.AnsCoder(made[1]).decode(model, N), symbols)
    assert [(len(words), digest(words)) for words in made] == WORDS[name]


def test_words_of_a_short_message_in_full():
    """One model each for a queue and for a stack, to look at where a digest differs."""
    queue, stack = stream.queue.RangeEncoder(), stream.stack.AnsCoder()
    symbols = np.array([2, 3, 0, 5, 2, 1, 4, 2], np.int32)
    for coder, encode in ((queue, queue.encode), (stack, stack.encode_reverse)):
        encode(symbols, MODELS["counts"][0])
        encode(np.array([200, 7], np.int32), MODELS["byte"][0])
        assert coder.get_compressed().tolist() == SHORT[type(coder).__name__]


def test_words_of_lossless_pixels():
    """Of all scales, with levels that no table reaches, as in a lossless file."""
    means, scales = spread(255 * FRACTIONS, 7919), spread(HIGHEST - LOWEST, 6007) + LOWEST
    x = np.clip(means // FRACTIONS + spread(60, 3001) - 30, 0, 255).astype(np.uint8)
    writer = Writer()
    writer.pixels(x, means, scales)
    data = writer.bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()[:16]) == PIXELS
    reader = Reader(data)
    assert np.array_equal(reader.pixels(means, scales), x)


def test_words_of_an_archives_stack():
    """Gaussians of many deviations pushed, others borrowed, as in an archive."""
    stack = Stack(Gaussians(50))
    mean, std = (spread(40_000, 7919) - 20_000) / 16, 2 ** (spread(80, 6007) / 16 + 3)
    k = np.rint(mean + std * (spread(600, 3001) - 300) / 100).astype(np.int64)
    k[::50] += 40_000  # beyond what tables reach
    stack.push_bytes(bytes(range(256)))
    stack.push(k, mean, std)
    borrowed = stack.borrow(mean[:40], 9.5)
    assert [(len(words), digest(words)) for words in [stack.words()]] == STACK
    stack.repay(borrowed, mean[:40], 9.5)
    assert np.array_equal(stack.pop(mean, std), k)
    assert stack.pop_bytes(256) == bytes(range(256))
