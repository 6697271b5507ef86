"""The wheel holds the packages and the weights, and works outside the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_wheel_works_elsewhere(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "DDPM_CODEC_MODELS"}
    run = lambda *a, **k: subprocess.run(  # noqa: E731
        [sys.executable, *a], cwd=tmp_path, check=True, capture_output=True, **k
    )
    source = tmp_path / "source"
    for folder in ("ddpm", "codec", "bench"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    run("-m", "build", "--wheel", "--no-isolation", "-o", str(tmp_path / "dist"), str(source))
    [wheel] = (tmp_path / "dist").glob("*.whl")
    shipped = {p.name for p in (ROOT / "ddpm" / "weights").iterdir() if p.suffix in (".json", ".safetensors")}
    packed = {Path(n).name for n in zipfile.ZipFile(wheel).namelist() if n.startswith("ddpm/weights/")}
    assert packed == shipped
    assert {"ddpm/py.typed", "codec/py.typed"} <= set(zipfile.ZipFile(wheel).namelist())
    own = {p.relative_to(ROOT).as_posix() for p in (ROOT / "bench").rglob("*.*") if "__pycache__" not in p.parts}
    assert own <= set(zipfile.ZipFile(wheel).namelist())
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    done = run(
        "-c",
        "from codec.cli import main; main()",
        "models",
        "--all",
        "--json",
        env={**environment, "PYTHONPATH": str(tmp_path / "site")},
    )
    rows = json.loads(done.stdout)
    elsewhere = {"env": {**environment, "PYTHONPATH": str(tmp_path / "site")}, "text": True}
    stored = tmp_path / "site" / "bench" / "results" / "demo.json"
    assert "dB" in run("-m", "bench.results", str(stored), **elsewhere).stdout
    where = "import bench.harness.photograph as h, codec.images.pictures as p; print(p.read_picture(h.PICTURE).shape)"
    assert run("-c", where, **elsewhere).stdout.strip() == "(256, 384, 3)"
    assert {Path(r["path"]).parents[2] for r in rows} == {tmp_path / "site"}
    assert {r["name"] for r in rows} == {Path(n).stem.removesuffix(".exact") for n in shipped}
