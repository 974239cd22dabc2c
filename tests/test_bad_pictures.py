"""Pictures people really have: each unfit one is one clear line, and nothing is written or lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.errors import BadInput
from mild_bench.images import decode_png, read_mask, read_rgb
from mild_bench.run.single import erase_picture

MAIN = "from mild_bench.cli import main; main()"
HEIGHT, WIDTH = 24, 36
Maker = Callable[[Path], None]


def photo() -> Image.Image:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.dstack([x * 7, y * 10, (x + y) * 4]).astype(np.uint8))


def hole(*, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    mask = np.zeros((height, width), np.uint8)
    mask[8:16, 10:20] = 255
    return Image.fromarray(mask)


def deep_rgb_png() -> bytes:
    """A 16-bit RGB PNG, which Pillow can read but not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    values = (np.asarray(photo()).astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo().transpose(Image.Transpose.ROTATE_90)  # as a phone stores it
    return encoded(turned, "PNG", exif=exif)


def deep_grey() -> bytes:
    values = np.asarray(photo().convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(values), "PNG")


def huge() -> bytes:
    """A small file that says it is 60,000 x 60,000."""
    data = bytearray(encoded(photo(), "PNG"))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


def animated(kind: str) -> bytes:
    frames = [photo(), photo().rotate(180)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


CONVERTIBLE = {
    "16-bit colour": (deep_rgb_png, "got 16-bit colour"),
    "16-bit grey": (deep_grey, "got 16-bit grey"),
    "grey": (lambda: encoded(photo().convert("L"), "PNG"), "got 8-bit grey"),
    "cmyk": (lambda: encoded(photo().convert("CMYK"), "JPEG"), "got CMYK"),
    "rotated": (rotated, "turned by its EXIF orientation tag (6)"),
    "palette": (lambda: encoded(photo().convert("P"), "PNG"), "got a colour palette"),
    "gif": (lambda: encoded(photo(), "GIF"), "got a colour palette"),
    "alpha": (lambda: encoded(photo().convert("RGBA"), "PNG"), "got RGB with transparency"),
    "colour key": (
        lambda: encoded(photo(), "PNG", transparency=(0, 0, 0)),
        "got one with a transparent colour",
    ),
}  # fmt: skip
HOPELESS = {
    "truncated png": (lambda: encoded(photo(), "PNG")[:-60], "got a broken one"),
    "truncated jpeg": (lambda: encoded(photo(), "JPEG")[:-60], "got a broken one"),
    "truncated webp": (lambda: encoded(photo(), "WEBP")[:-60], "expected a"),
    "signature only": (lambda: encoded(photo(), "PNG")[:8], "expected a"),
    "0 bytes": (lambda: b"", "got an empty file (0 bytes)"),
    "text": (lambda: b"<html>404 not found</html>", "got something else"),
    "animated gif": (lambda: animated("GIF"), "got an animation of 2 frames"),
    "animated png": (lambda: animated("PNG"), "got an animation of 2 frames"),
    "animated webp": (lambda: animated("WEBP"), "got an animation of 2 frames"),
    "huge": (huge, "expected at most 100000000 pixels"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "something else"),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photo().save(tmp_path / "photo.png")
    hole().save(tmp_path / "mask.png")
    return tmp_path


def words(folder: Path, *more: str, out: str = "clean.png") -> list[str]:
    files = ["--image", str(folder / "photo.png"), "--mask", str(folder / "mask.png")]
    return ["erase", *files, "--eraser", "telea", "--out", str(folder / out), *more]


def refused(folder: Path, *more: str, out: str = "clean.png") -> str:
    """Run the command; it must refuse with one line and change no file. Returns the line."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = CliRunner().invoke(app, words(folder, *more, out=out))
    assert isinstance(done.exception, BadInput), done.exception or done.output
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert after == before
    message = str(done.exception)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("kind", [*CONVERTIBLE, *HOPELESS])
def test_an_unfit_photo_is_refused(folder: Path, kind: str) -> None:
    make, reason = {**CONVERTIBLE, **HOPELESS}[kind]
    (folder / "photo.png").write_bytes(make())
    message = refused(folder)
    assert message.startswith(str(folder / "photo.png"))
    assert reason in message


@pytest.mark.parametrize("kind", [*HOPELESS, *sorted(set(CONVERTIBLE) - {"grey"})])
def test_an_unfit_mask_is_refused(folder: Path, kind: str) -> None:
    make, _ = {**CONVERTIBLE, **HOPELESS}[kind]
    (folder / "mask.png").write_bytes(make())
    assert refused(folder).startswith(str(folder / "mask.png"))


@pytest.mark.parametrize("kind", HOPELESS)
def test_converting_does_not_help_what_is_broken(folder: Path, kind: str) -> None:
    make, reason = HOPELESS[kind]
    (folder / "photo.png").write_bytes(make())
    assert reason in refused(folder, "--convert")


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_convert_makes_it_upright_8_bit_rgb(folder: Path, kind: str) -> None:
    make, _ = CONVERTIBLE[kind]
    (folder / "photo.png").write_bytes(make())
    assert "--convert" in refused(folder)
    done = CliRunner().invoke(app, words(folder, "--convert"))
    assert done.exit_code == 0, done.exception
    result = decode_png((folder / "clean.png").read_bytes())
    assert result.shape == (HEIGHT, WIDTH, 3)
    kept = ~(np.asarray(hole()) > 127)
    mode = "P" if kind == "palette" else "L" if "grey" in kind else "RGB"
    want = np.asarray(photo().convert(mode).convert("RGB")).astype(int)
    limit = 40 if kind in ("gif", "cmyk") else 0
    if kind == "colour key":  # one key pixel, laid on white
        kept[0, 0] = False
    assert np.abs(result.astype(int) - want)[kept].max() <= limit


def test_the_result_is_the_photo_outside_of_the_mask_at_its_own_size(folder: Path) -> None:
    done = CliRunner().invoke(app, words(folder))
    assert done.exit_code == 0
    assert done.stdout.strip() == str(folder / "clean.png")
    result = decode_png((folder / "clean.png").read_bytes())
    kept = ~(np.asarray(hole()) > 127)
    np.testing.assert_array_equal(result[kept], np.asarray(photo())[kept])
    assert (result != np.asarray(photo())).any()


@pytest.mark.parametrize("out", ["clean.jpg", "clean.webp", "deep/er/clean.png"])
def test_other_formats_and_new_folders(folder: Path, out: str) -> None:
    assert CliRunner().invoke(app, words(folder, out=out)).exit_code == 0
    with Image.open(folder / out) as image:
        assert (image.mode, image.size) == ("RGB", (WIDTH, HEIGHT))
        near = np.asarray(image).astype(int) - np.asarray(photo())
    assert np.abs(near)[~(np.asarray(hole()) > 127)].mean() < 3


def test_the_colour_profile_stays(folder: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo().save(folder / "photo.png", icc_profile=profile)
    assert CliRunner().invoke(app, words(folder)).exit_code == 0
    with Image.open(folder / "clean.png") as image:
        assert image.info["icc_profile"] == profile


def test_a_profile_of_another_mode_does_not_stay(folder: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo().convert("CMYK").save(folder / "photo.png", format="JPEG", icc_profile=profile)
    assert CliRunner().invoke(app, words(folder, "--convert")).exit_code == 0
    with Image.open(folder / "clean.png") as image:
        assert "icc_profile" not in image.info


def test_a_phones_mpo_is_read_as_its_first_picture(folder: Path) -> None:
    data = encoded(photo(), "MPO", save_all=True, append_images=[photo().rotate(180)], quality=95)
    (folder / "photo.png").write_bytes(data)
    picture = read_rgb(folder / "photo.png")
    assert np.abs(picture.astype(int) - np.asarray(photo())).mean() < 3


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (hole(height=HEIGHT + 1), "expected the picture's size 36 x 24, got 36 x 25"),
        (hole(height=WIDTH, width=HEIGHT), "expected the picture's size 36 x 24, got 24 x 36"),
        (Image.new("L", (WIDTH, HEIGHT), 0), "got an all-black mask"),
        (Image.new("L", (WIDTH, HEIGHT), 127), "got an all-black mask"),
        (Image.new("L", (WIDTH, HEIGHT), 255), "got a mask that covers everything"),
        (hole().convert("RGB"), "got RGB colour"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(folder: Path, mask: Image.Image, reason: str) -> None:
    mask.save(folder / "mask.png")
    assert reason in refused(folder)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "I;16", "LA", "RGBA"])
def test_the_same_mask_in_every_mode(folder: Path, mode: str) -> None:
    if mode == "I;16":
        Image.fromarray(np.asarray(hole()).astype(np.uint16) * 257).save(folder / "mask.png")
    else:
        hole().convert(mode).save(folder / "mask.png")
    mask = read_mask(folder / "mask.png", convert=mode not in ("1", "L"))
    np.testing.assert_array_equal(mask, np.asarray(hole()) > 127)


def test_a_mask_painted_on_a_transparent_layer_erases_only_the_paint(folder: Path) -> None:
    layer = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    layer[..., 3] = np.asarray(hole())
    Image.fromarray(layer).save(folder / "mask.png")
    np.testing.assert_array_equal(
        read_mask(folder / "mask.png", convert=True), np.asarray(hole()) > 127
    )


@pytest.mark.parametrize("name", ["photo.png", "mask.png"])
def test_a_folder_or_nothing_instead_of_a_file(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert "no such file" in refused(folder)
    (folder / name).mkdir()
    assert "expected a picture file, got a folder" in refused(folder)


def test_a_name_too_long_for_the_disk(folder: Path) -> None:
    long = "x" * 300
    assert "could not be read (File name too long)" in refused(folder, "--image", f"{long}.png")
    assert "could not be written (File name too long)" in refused(folder, out=f"{long}.png")
    done = run(folder, "erase", long, "--eraser", "telea", "--out", "run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"mild-bench: {long}/manifest.json: File name too long")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("photo.png", "would overwrite an input"),
        ("mask.png", "would overwrite an input"),
        ("../{here}/photo.png", "would overwrite an input"),
        ("clean.tiff", "expected --out to end in .png, .jpg, .jpeg, .webp, got '.tiff'"),
        ("clean", "got ''"),
        ("folder.png", "expected --out to name a file, got a folder"),
        ("photo.png/clean.png", "could not be written"),
    ],
)
def test_an_unfit_out_is_refused(folder: Path, out: str, reason: str) -> None:
    (folder / "folder.png").mkdir()
    assert reason in refused(folder, out=out.format(here=folder.name))


def test_an_eraser_that_needs_the_truth_is_refused(folder: Path) -> None:
    assert "needs the truth" in refused(folder, "--eraser", "truth")


def test_a_full_disk_leaves_the_old_result(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "clean.png").write_bytes(b"what was there before")
    monkeypatch.setattr(os, "fsync", _full)
    assert "No space left on device" in refused(folder)


def _full(descriptor: int) -> None:
    import errno

    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def run(folder: Path, *command: str | bytes) -> subprocess.CompletedProcess[str]:
    arguments = [os.fsencode(word) for word in (sys.executable, "-c", MAIN, *command)]
    return subprocess.run(arguments, cwd=folder, capture_output=True, text=True)


def test_names_that_are_not_utf_8(folder: Path) -> None:
    odd = b"caf\xe9.png"
    (folder / "photo.png").rename(folder / os.fsdecode(odd))
    line = ["erase", "--mask", "mask.png", "--eraser", "telea", "--image"]
    done = run(folder, *line, odd, "--out", b"cl\xe9an.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == r"cl\udce9an.png"
    assert (folder / os.fsdecode(b"cl\xe9an.png")).is_file()
    done = run(folder, *line, b"no-caf\xe9.png", "--out", "b.png")
    assert done.returncode == 2
    assert done.stderr == "mild-bench: no-caf\\xe9.png: no such file; check the name\n"


def test_a_refusal_is_one_line_on_stderr_and_code_2(folder: Path) -> None:
    (folder / "photo.png").write_bytes(encoded(photo(), "PNG")[:-60])
    done = run(folder, *words(folder))
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("mild-bench: ")


def test_damage_anywhere_is_a_picture_or_one_line(tmp_path: Path) -> None:
    """Cut and scribbled files of every kind: never another error, never a warning."""
    rng = np.random.default_rng(0)
    path = tmp_path / "x"
    info = PngImagePlugin.PngInfo()
    info.add_text("note", "n" * 50, zip=True)
    kinds = {"PNG": {"pnginfo": info}, "JPEG": {}, "WEBP": {}, "GIF": {}, "BMP": {}}
    outcomes = {"read": 0, "refused": 0}
    for kind, options in kinds.items():
        data = encoded(photo(), kind, **options)
        cuts = [data[: int(end)] for end in rng.integers(0, len(data), 40)]
        for damaged in (*cuts, *(_scribbled(data, rng) for _ in range(60))):
            path.write_bytes(damaged)
            try:
                assert read_rgb(path, convert=True).dtype == np.uint8
                outcomes["read"] += 1
            except BadInput as error:
                assert "\n" not in str(error)
                outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


def _scribbled(data: bytes, rng: np.random.Generator) -> bytes:
    scribbled = bytearray(data)
    for _ in range(3):
        scribbled[int(rng.integers(0, len(data)))] = int(rng.integers(0, 256))
    return bytes(scribbled)


def test_the_function_is_the_commands_twin(folder: Path) -> None:
    assert CliRunner().invoke(app, words(folder)).exit_code == 0
    out = erase_picture(folder / "photo.png", folder / "mask.png", "telea", folder / "twin.png")
    assert out.read_bytes() == (folder / "clean.png").read_bytes()
