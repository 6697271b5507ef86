from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.container import EXTRAS, MAGIC, PARTS, Header, checksum, crc8, model_bytes
from codec.errors import CodecError, DamagedFile, NotOurFile
from codec.plan import MEAN, Profile

SIZES = {"height": st.integers(1, 65535), "width": st.integers(1, 65535), "grey": st.booleans()}
extras = st.sets(st.sampled_from(["icc", "exif", "xmp"])).map(lambda s: tuple(sorted(s, key=EXTRAS.index)))
coded = st.builds(
    Header,
    model=st.binary(min_size=2, max_size=2),
    profile=st.builds(Profile, st.integers(0, 127), st.integers(0, 7)),
    steps=st.integers(0, 63),
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from([mode for mode in PARTS if mode != "stored"]),
    extras=extras,
    **SIZES,
).map(lambda header: replace(header, model=header.model[: header.version]))
stored = st.builds(
    Header, model=st.just(b""), profile=st.just(Profile(0, 0)), steps=st.just(0), mode=st.just("stored"), extras=extras,
    colour=st.binary(min_size=3, max_size=3), **SIZES,
).map(lambda header: replace(header, colour=header.colour[: 1 if header.grey else 3]))  # fmt: skip
headers = coded | stored


@given(headers, st.sampled_from([None, 32]))
def test_round_trip(header, native):
    packed = header.pack(native)
    asked = []
    assert Header.unpack(packed + b"rest", lambda model: asked.append(model) or native) == (header, len(packed))
    assert asked in ([], [header.model])
    assert model_bytes(packed) == header.model


def test_what_version_1_can_say_is_of_version_1():
    """Files of before have one byte of their model's fingerprint, those that say more have two, or need none."""
    plain = Header(b"ab", 40, 50, MEAN, 9)
    assert plain.pack()[1] >> 6 == 0
    assert plain.pack()[2] == ord("a")
    assert replace(plain, extras=("icc",)).pack()[1] >> 6 == 1
    assert model_bytes(replace(plain, extras=("icc",)).pack()) == b"ab"
    assert model_bytes(replace(plain, mode="stored", colour=b"abc").pack()) == b""
    for nothing in (b"", b"\xdc", b"\x89PNG", bytes([MAGIC, 2 << 6])):
        assert model_bytes(nothing) is None


def test_sizes_promised():
    """With the two bytes of payload checksum: at most 10 up to 127x127, 12 up to 16383."""
    assert len(Header(b"\1", 32, 32, MEAN, 9).pack(32)) + 2 == 8
    assert len(Header(b"\1", 127, 127, MEAN, 9).pack(None)) + 2 == 10
    assert len(Header(b"\1", 16383, 16383, MEAN, 9).pack(None)) + 2 == 12
    assert len(Header(b"", 65535, 65535, MEAN, 0, mode="stored", colour=b"abc").pack(None)) + 2 == 13


@given(headers, st.data())
def test_every_damaged_byte_is_noticed(header, data):
    packed = bytearray(header.pack())
    at = data.draw(st.integers(0, len(packed) - 1))
    packed[at] ^= data.draw(st.integers(1, 255))
    try:
        again, length = Header.unpack(bytes(packed))
    except CodecError:
        return
    # Only a flag that moves the end of the header can pass the checksum by chance; it must not look like the original.
    assert length != len(packed) or again != header


@given(st.binary(max_size=40))
def test_noise_never_gets_past_the_family_of_errors(data):
    try:
        header, length = Header.unpack(bytes([MAGIC]) + data, lambda _: 32)
    except CodecError:
        return
    assert 1 <= header.height <= 65535
    assert length <= len(data) + 1


def test_messages():
    good = Header(b"\1", 40, 50, MEAN, 9).pack()
    with pytest.raises(NotOurFile, match="not a ddpm-codec file"):
        Header.unpack(b"\x89PNG")
    with pytest.raises(NotOurFile, match="version 3"):
        Header.unpack(bytes([good[0], good[1] | 2 << 6]) + good[2:])
    with pytest.raises(DamagedFile, match="inside its header"):
        Header.unpack(good[:-1])
    with pytest.raises(DamagedFile, match="damaged"):
        Header.unpack(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match="sizes"):
        Header(b"\1", 0, 5, MEAN, 9).pack()


def test_crc8_finds_all_single_and_neighbouring_errors():
    data = bytes(range(12))
    for at in range(12):
        for flip in range(1, 256):
            damaged = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            assert crc8(damaged) != crc8(data)


def test_checksum_depends_on_all_three():
    base = checksum(b"h", b"p", b"f")
    assert base not in (checksum(b"x", b"p", b"f"), checksum(b"h", b"x", b"f"), checksum(b"h", b"p", b"x"))
