"""What is shipped: light imports, the wheel, the documented command line, the two-way links."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "diffusers", "fiftyone", "datasets", "transformers", "cv2", "pandas")
MAPPED = {"curation": "mild_bench/curation", "metrics": "mild_bench/metrics",
          "leaderboards": "mild_bench/leaderboards"}  # fmt: skip
NOT_SHIPPED = ("curation/composing/assets/build.py", "leaderboards/results/")


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("what", ["mild_bench", "mild_bench.cli", "mild_bench.release"])
def test_importing_loads_nothing_heavy(what: str) -> None:
    code = f"import sys, {what}; print([name for name in {HEAVY} if name in sys.modules])"
    assert python(code).strip() == "[]"


def test_help_loads_nothing_heavy_and_names_the_stages() -> None:
    code = (
        "import sys; sys.argv = ['mild-bench', '--help']\n"
        "from mild_bench.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    shown = python(code)
    assert shown.strip().endswith("[]")
    for stage in ("curate", "erase", "score", "board", "demo", "doctor"):
        assert stage in shown


def test_the_links_make_one_package() -> None:
    for folder, link in MAPPED.items():
        assert (ROOT / link).resolve() == (ROOT / folder).resolve()


def test_the_wheel_holds_what_the_tree_holds(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: nothing to compare the wheel with")
    export = tmp_path / "tree"
    export.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True)
    subprocess.run(["tar", "x", "-C", str(export)], input=archive.stdout, check=True)
    subprocess.run(
        [sys.executable, "-m", "build", "-w", "--no-isolation", "--outdir", str(tmp_path / "w")],
        cwd=export, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "w").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = {name for name in file.namelist() if ".dist-info/" not in name}
    committed = {
        name for name in tracked_at_head() if not name.endswith((".gitignore", ".gitkeep"))
    }
    assert held == committed


def tracked_at_head() -> set[str]:
    listed = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "HEAD"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    ).stdout.splitlines()  # fmt: skip
    shipped = set()
    for name in listed:
        top, _, rest = name.partition("/")
        if name in MAPPED.values() or name.startswith(NOT_SHIPPED):
            continue
        if top in MAPPED:
            shipped.add(f"{MAPPED[top]}/{rest}")
        elif top == "mild_bench":
            shipped.add(name)
    return shipped


def commands() -> list[str]:
    import typer.main

    from mild_bench.cli import app

    def walk(command: Any, path: str) -> list[str]:
        if not hasattr(command, "commands"):
            return [path]
        return [
            leaf for name, sub in command.commands.items() for leaf in walk(sub, f"{path} {name}")
        ]

    return walk(typer.main.get_command(app), "mild-bench")


def test_every_command_is_in_the_docs() -> None:
    text = "".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
    assert [command for command in commands() if command not in text] == []


def test_every_committed_constraint_is_a_version_not_an_address() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines and all("==" in line and "://" not in line for line in lines)
