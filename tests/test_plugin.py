"""A third party's package, built, installed and used as its author would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from make_release import make_release

PLUGIN = Path(__file__).parent / "plugin"
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
MAIN = "from mild_bench.cli import main; main()"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the plugin's wheel and unpack it where an installer would (no network needed)."""
    base = tmp_path_factory.mktemp("plugin")
    source, wheels, site = base / "source", base / "wheels", base / "site"
    shutil.copytree(PLUGIN, source)
    wheels.mkdir()
    command = [sys.executable, "-c", BUILD, str(wheels)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def mild_bench(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(site), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )


def test_the_table_lists_the_plugin_beside_the_built_in_erasers(installed: Path) -> None:
    done = mild_bench(installed, "erasers")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert rows["nearest-fill"].split()[1:3] == ["1.2", "MIT"]
    assert rows["nearest-fill"].endswith("nearest-fill 1.2")
    assert rows["truth"].split()[3:8] == ["the", "truth", "must", "come", "first"]
    assert rows["patchmatch"].endswith("built in")


def test_a_release_is_erased_with_the_plugin(installed: Path, tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", tasks=2)
    out = tmp_path / "run"
    spec = "nearest-fill[metric=taxicab]"
    done = mild_bench(installed, "erase", str(release), "--eraser", spec, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert len(list((out / "results").glob("*.png"))) == 2
    assert '"name": "nearest-fill[metric=taxicab]"' in (out / "run.json").read_text()


def test_a_wrong_setting_and_a_near_name_are_one_line(installed: Path, tmp_path: Path) -> None:
    release = str(make_release(tmp_path / "release", tasks=1))
    for spec, expected in {
        "nearest-fill[metric=crow]": "metric must be euclidean, taxicab or chessboard, got 'crow'",
        "nearest-fill[speed=9]": "unexpected keyword argument 'speed'",
        "nearest-fil": "did you mean nearest-fill",
    }.items():
        done = mild_bench(
            installed, "erase", release, "--eraser", spec, "--out", str(tmp_path / "o")
        )
        assert done.returncode == 2
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_a_broken_plugin_is_named_and_the_others_still_work(tmp_path: Path) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[mild_bench.erasers]\nbroken = not_there:eraser\n")
    done = mild_bench(tmp_path, "erasers")
    assert done.returncode == 0
    row = next(line for line in done.stdout.splitlines() if line.startswith("broken"))
    assert "does not load" in row
    assert "not_there" in row
    assert "telea" in done.stdout
