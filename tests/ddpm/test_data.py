import pickle

import numpy as np
import pytest
from PIL import Image

from ddpm.errors import CodecError
from ddpm.images.data import cut_sheet, load_images

BATCH = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
PLANES = BATCH.transpose(0, 3, 1, 2).reshape(5, 3072)


def test_cifar_python_layout(tmp_path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": PLANES, b"labels": [0] * 5}))
    assert np.array_equal(np.stack(load_images(tmp_path)), BATCH)


def test_cifar_binary_layout(tmp_path):
    labelled = np.concatenate([np.zeros((5, 1), np.uint8), PLANES], 1)
    (tmp_path / "data_batch_1.bin").write_bytes(labelled.tobytes())
    assert np.array_equal(np.stack(load_images(tmp_path)), BATCH)


def test_a_pickle_that_does_something_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return print, ("run",)

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({b"data": Trap()}))
    with pytest.raises(ValueError, match="not a CIFAR-10 file"):
        load_images(tmp_path)


def test_contact_sheet_and_folder(tmp_path):
    sheet = BATCH[:4].reshape(2, 2, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(64, 64, 3)
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    assert np.array_equal(cut_sheet(sheet, 32), BATCH[:4])
    assert np.array_equal(np.stack(load_images(tmp_path / "sheet.png", 32)), BATCH[:4])
    assert len(load_images(tmp_path)) == 1
    assert len(load_images(tmp_path / "*.png", 32)) == 4
    with pytest.raises(CodecError, match="no images"):
        load_images(tmp_path, exclude=("sheet.png",))


def test_all_that_is_wrong_is_named_at_once_or_left_out(tmp_path):
    Image.fromarray(BATCH[0]).save(tmp_path / "a.png")
    Image.fromarray(BATCH[1][..., 0]).save(tmp_path / "b.png")
    Image.new("CMYK", (32, 32)).save(tmp_path / "c.jpg")
    Image.new("I;16", (32, 32)).save(tmp_path / "d.png")
    Image.new("RGBA", (32, 32)).save(tmp_path / "e.png")
    (tmp_path / "f.avif").write_bytes(b"none")
    (tmp_path / "g").write_bytes(b"none")
    (tmp_path / "h.bin").write_bytes(b"none")
    (tmp_path / "empty").mkdir()
    said = []
    sources = [tmp_path, *(tmp_path / n for n in ("g", "h.bin", "i.png", "empty"))]
    with pytest.raises(CodecError) as caught:
        load_images(sources, say=said.append)
    words = [
        "CMYK",
        "8 bits",
        "transparency",
        "not an image",
        "not an image",
        "not a CIFAR-10",
        "No such file",
        "no images",
    ]
    assert len(caught.value.lines) == len(words)
    names = ["c.jpg", "d.png", "e.png", "f.avif", "g", "h.bin", "i.png", "empty"]
    for line, name, word in zip(caught.value.lines, names, words):
        assert str(tmp_path / name) in line
        assert word in line
    assert said == [f"{tmp_path}: 2 files are no pictures: passed over"]
    said.clear()
    images = load_images(sources, skip_bad=True, say=said.append)
    assert np.array_equal(np.stack(images), np.stack([BATCH[0], np.repeat(BATCH[1][..., :1], 3, 2)]))
    assert said[1:] == [f"left out: {line}" for line in caught.value.lines]
    with pytest.raises(CodecError):
        load_images([tmp_path / "c.jpg", tmp_path / "d.png"], skip_bad=True)


def test_a_name_with_brackets_is_a_file_where_there_is_one(tmp_path):
    Image.fromarray(BATCH[0]).save(tmp_path / "a[1].png")
    assert np.array_equal(load_images(tmp_path / "a[1].png")[0], BATCH[0])
    assert len(load_images(tmp_path / "a[[]?].png")) == 1
