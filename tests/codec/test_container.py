from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codec.errors import CodecError, DamagedFile, NotOurFile, UnknownModel
from codec.format.container import (
    EXTRAS,
    MAGIC,
    PARTS,
    Header,
    checksum,
    crc8,
    model_bytes,
    pack_corrections,
    pack_part,
    unpack_corrections,
    unpack_part,
    unpack_varint,
    varint,
)
from codec.lossy.plan import MEAN, STRIDES, Profile

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
    stride=st.integers(1, STRIDES),
    **SIZES,
)
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


def test_a_file_names_two_bytes_of_its_model_or_none():
    plain = Header(b"ab", 40, 50, MEAN, 9)
    assert model_bytes(plain.pack()) == plain.pack()[2:4] == b"ab"
    assert model_bytes(replace(plain, extras=("icc",)).pack()) == b"ab"
    assert model_bytes(replace(plain, mode="stored", colour=b"abc").pack()) == b""
    for nothing in (b"", b"\xdc", b"\x89PNG", bytes([MAGIC, 1 << 6, 0, 0])):
        assert model_bytes(nothing) is None


def test_sizes_promised():
    """With the two bytes of payload checksum: at most 11 up to 255x255, 13 up to 65535."""
    assert len(Header(b"\1\2", 32, 32, MEAN, 9).pack(32)) + 2 == 9
    assert len(Header(b"\1\2", 255, 255, MEAN, 9).pack(None)) + 2 == 11
    assert len(Header(b"\1\2", 65535, 65535, MEAN, 9).pack(None)) + 2 == 13
    assert len(Header(b"", 65535, 65535, MEAN, 0, mode="stored", colour=b"abc").pack(None)) + 2 == 12


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
    good = Header(b"\1\2", 40, 50, MEAN, 9).pack()
    with pytest.raises(NotOurFile, match="not a ddpm-codec file"):
        Header.unpack(b"\x89PNG")
    with pytest.raises(NotOurFile, match="version 2; this program reads version 4"):
        Header.unpack(bytes([good[0], good[1] & 63 | 1 << 6]) + good[2:])
    with pytest.raises(DamagedFile, match="inside its header"):
        Header.unpack(good[:-1])
    with pytest.raises(DamagedFile, match="damaged"):
        Header.unpack(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ValueError, match="sizes"):
        Header(b"\1\2", 0, 5, MEAN, 9).pack()
    with pytest.raises(ValueError, match="strides"):
        replace(Header(b"\1\2", 4, 5, MEAN, 9), stride=5).pack()


def test_crc8_finds_all_single_and_neighbouring_errors():
    data = bytes(range(12))
    for at in range(12):
        for flip in range(1, 256):
            damaged = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            assert crc8(damaged) != crc8(data)


def test_crc8_is_that_of_the_catalogue():
    assert crc8(b"123456789") == 0xF4


def test_checksum_depends_on_all_three():
    base = checksum(b"h", b"p", b"f")
    assert base not in (checksum(b"x", b"p", b"f"), checksum(b"h", b"x", b"f"), checksum(b"h", b"p", b"x"))


def sealed(*fields: int) -> bytes:
    """A header of these bytes, with its checksum, and something behind it."""
    return bytes([MAGIC, *fields, crc8(bytes([MAGIC, *fields]))]) + b"rest"


def test_bytes_are_where_the_format_says():
    """docs/format.md by hand: flags, model, spending, size, seed; extras before the model."""
    plain = Header(b"ab", 40, 50, Profile(0b1010101, 0b110), 0b100001, grey=True, seed=300)
    fields = [0b11001101, ord("a"), ord("b"), 0b10000110, 0b10101110, 40, 50, 300 & 127 | 128, 2]
    assert plain.pack() + b"rest" == sealed(*fields)
    assert Header.unpack(sealed(*fields)) == (plain, 11)
    large = Header(b"ab", 256, 5, MEAN, 1, mode="lossless, with alpha", extras=("icc", "xmp"))
    fields = [0b11110010, 0b11011, ord("a"), ord("b"), 0b00000110, 0b00000100, 1, 0, 0, 5]
    assert large.pack() + b"rest" == sealed(*fields)
    wide = Header(b"ab", 4, 5, MEAN, 1, mode="lossless", stride=3)
    assert wide.pack() + b"rest" == sealed(0b11110001, 0b10010000, ord("a"), ord("b"), 0b00000110, 0b00000100, 4, 5)
    stored = Header(b"", 7, 7, Profile(0, 0), 0, mode="stored", colour=b"xyz")
    assert stored.pack(7) + b"rest" == sealed(0b11100001, 7, 7, *b"xyz")


def test_kinds_of_files_that_are_not_known_are_refused():
    """A form of size, a mode, transparency where there is none, stored of native size, with seed or stride."""
    assert Header.unpack(sealed(0b11110001, 0b10001, 1, 2, 4, 4, 9, 9))[0].mode == "lossless, with alpha"
    unknown = [
        [0b11000011, 1, 2, 4, 4],
        [0b11110001, 0b110000, 1, 2, 4, 4, 9, 9],
        [0b11110001, 0b000001, 1, 2, 4, 4, 9, 9],
        [0b11110001, 0b100001, 9, 9, 1, 2, 3],
        [0b11100000, 1, 2, 3],
        [0b11100101, 9, 9, 5, 1, 2, 3],
        [0b11110001, 0b1100000, 9, 9, 1, 2, 3],
    ]
    for fields in unknown:
        with pytest.raises(NotOurFile, match="does not know"):
            Header.unpack(sealed(*fields), lambda _: 32)
    for size in ([0, 9], [9, 0]):
        with pytest.raises(DamagedFile, match="empty"):
            Header.unpack(sealed(0b11000001, 1, 2, 4, 4, *size))


def test_a_file_of_native_size_needs_its_model():
    native = [0b11000000, 1, 2, 4, 4]
    assert Header.unpack(sealed(*native), lambda model: {b"\1\2": 32}[model])[0].height == 32
    for known in (None, lambda model: None):
        with pytest.raises(UnknownModel, match="begins with 0102,"):
            Header.unpack(sealed(*native), known)
    with pytest.raises(DamagedFile, match="inside its header"):
        Header.unpack(bytes([MAGIC]))


def test_sizes_take_the_least_bytes():
    lengths = {(32, 32): 7, (255, 255): 9, (256, 255): 11, (255, 256): 11, (65535, 65535): 11}
    for (height, width), length in lengths.items():
        header = Header(b"ab", height, width, MEAN, 9)
        assert len(header.pack(32)) == length
        assert Header.unpack(header.pack(32) + b"rest", lambda _: 32) == (header, length)
    for height, width in ((65536, 1), (1, 65536), (0, 1), (1, 0)):
        with pytest.raises(ValueError, match="1 to 65535"):
            Header(b"ab", height, width, MEAN, 9).pack()


@given(st.integers(0, 2**63 - 1), st.binary(max_size=3), st.binary(max_size=3))
def test_numbers_of_any_length(n, before, after):
    packed = varint(n)
    assert len(packed) == max(1, -(-n.bit_length() // 7))
    assert unpack_varint(before + packed + after, len(before)) == (n, len(before) + len(packed))
    for cut in range(len(packed)):
        data = before + packed[:cut]
        assert unpack_varint(data, len(before)) == (n & (1 << 7 * cut) - 1, len(data) + 1)


def test_a_number_has_at_most_nine_bytes():
    assert unpack_varint(b"\xff" * 20, 3) == (2**63 - 1, 12)


@given(st.binary(min_size=3, max_size=9), st.binary(min_size=1, max_size=9), st.integers(1, 255), st.data())
def test_corrections_are_checked_or_neutral(header, corrections, flip, data):
    assert pack_corrections(header, b"") == b""
    assert unpack_corrections(header, len(header), 0) == (b"", len(header))
    packed, end = header + pack_corrections(header, corrections), len(header) + len(corrections)
    assert unpack_corrections(packed + b"rest", len(header), len(corrections)) == (corrections, end + 1)
    for cut in (len(header), end):
        found = unpack_corrections(packed[:cut], len(header), len(corrections))
        assert found == (b"\x80" * len(corrections), end + 1)
    damaged = bytearray(packed)
    damaged[data.draw(st.integers(0, end))] ^= flip
    with pytest.raises(DamagedFile, match="corrections"):
        unpack_corrections(bytes(damaged), len(header), len(corrections))


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=200), st.binary(max_size=4))
def test_a_part_says_its_length(header, part, before):
    packed = before + pack_part(header, part)
    begin = len(packed) - len(part)
    assert unpack_part(packed + b"rest", header, len(before)) == (len(part), begin)
    assert unpack_part(packed[:begin], header, len(before)) == (len(part), begin)
    for cut in range(len(before), begin):
        assert unpack_part(packed[:cut], header, len(before)) == (0, cut + 1)
    damaged = bytearray(packed)
    damaged[begin - 1] ^= 1
    with pytest.raises(DamagedFile, match="length"):
        unpack_part(bytes(damaged), header, len(before))
    with pytest.raises(DamagedFile, match="length"):
        unpack_part(packed, bytes([header[0] ^ 1]) + header[1:], len(before))
    assert pack_part(header, part)[begin - len(before) - 1] == crc8(header + varint(len(part)))


def test_what_stands_behind_the_messages():
    header = Header(b"a", 4, 4, MEAN, 1)
    known = {
        ("lossy", ()): (),
        ("lossy", ("xmp",)): ("xmp",),
        ("lossless", ("icc", "exif")): ("exif", "pixels"),
        ("lossless, with alpha", ("exif", "xmp")): ("alpha", "exif", "xmp", "pixels"),
        ("stored", ("icc",)): ("picture",),
    }
    for (mode, extras), parts in known.items():
        said = replace(header, mode=mode, extras=extras)
        assert said.parts == parts
        assert said.lossless == ("less" in mode or mode == "stored")
        assert said.stored == (mode == "stored")
