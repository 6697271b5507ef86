"""Files are written whole or not at all, to names of any kind."""

import os
import threading

import pytest

from codec.errors import CodecError
from ddpm.files import write_whole


def test_writing_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "out"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CodecError, match="No space"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    path, target = tmp_path / "link", tmp_path / "there" / "file"
    target.write_bytes(b"old")
    path.symlink_to("there/file")
    write_whole(path, b"new")
    assert path.is_symlink()
    assert target.read_bytes() == b"new"
    target.unlink()
    write_whole(path, b"again")
    assert target.read_bytes() == b"again"
    assert list(target.parent.iterdir()) == [target]


def test_pipes_and_devices_are_written_into(tmp_path):
    path, got = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    reader.start()
    write_whole(path, b"data")
    assert path.is_fifo()
    reader.join(10)
    assert got == [b"data"]
    (tmp_path / "null").symlink_to(os.devnull)
    write_whole(tmp_path / "null", b"data")
    assert (tmp_path / "null").is_char_device()


def test_names_may_be_as_long_as_the_system_lets_them(tmp_path):
    write_whole(tmp_path / ("n" * 255), b"data")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"data"]
    with pytest.raises(CodecError, match="File name too long"):
        write_whole(tmp_path / ("n" * 256), b"data")
