"""The board's page in a real browser, and the files beside it."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_samples import add_traces
from board_samples import PRIMARY, add_layers, sample_record, sample_runs, without_task
from PIL import Image
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.errors import BadInput
from mild_bench.images import encode_png
from mild_bench.leaderboards.pictures import outline, shrink, task_pictures
from mild_bench.run.board import build_board
from mild_bench.store import read_json, write_json

HOSTILE = "</script><img src=x onerror=alert(1)>&amp;"
NAMES = ("truth", "copy-input", "good", HOSTILE)
FAILED_TASK, REASON = "scene-003-pair", "<script>alert(2)</script> ran out of memory"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sample_runs(tmp_path_factory.mktemp("runs"), [*NAMES, "fair"])


@pytest.fixture(scope="module")
def board(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board of five runs; one failed on a task, another one has attention and layers."""
    add_traces(runs[2], seed=0)
    add_layers(runs[2])
    poor = runs[3]
    record = read_json(poor / "record-mild.json")
    broken = without_task(record, FAILED_TASK, how="failed")
    [task] = [task for task in broken["tasks"] if task["task_id"] == FAILED_TASK]
    task["reason"] = REASON
    write_json(poor / "record-mild.json", broken)
    note = poor / "tasks" / f"{FAILED_TASK}.json"
    write_json(note, {**read_json(note), "status": "failed", "reason": REASON, "sha256": None})
    out = tmp_path_factory.mktemp("board")
    build_board(runs, out, picture_size=96)
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; where CI promises one, its absence is a failure."""
    chromium = next((p for n in ("chromium", "google-chrome") if (p := shutil.which(n))), None)
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        message = "needs chromium and chromedriver: apt-get install chromium chromium-driver"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture
def page(browser: Any, board: Path) -> Any:
    """The page, freshly loaded on a wide screen in light mode."""
    screen(browser, 1280, scheme="light")
    browser.get((board / "index.html").as_uri())
    browser.execute_script("localStorage.clear()")
    return browser


def screen(browser: Any, width: int, *, scheme: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},  # clicks do not wait for scrolling
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def find(page: Any, selector: str) -> Any:
    return page.find_element("css selector", selector)


def texts(page: Any, selector: str) -> list[str]:
    return [item.text for item in page.find_elements("css selector", selector)]


def pick(page: Any, selector: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(find(page, selector)).select_by_visible_text(text)


def cut(page: Any) -> float:
    style = "return getComputedStyle(document.querySelector('#stage')).getPropertyValue('--cut')"
    return float(page.execute_script(style).strip().rstrip("%"))


def pictures(page: Any, side: str) -> list[str]:
    images = page.find_elements("css selector", f"#{side} img")
    return [image.get_attribute("src") for image in images]


def test_page_is_quiet_and_asks_nobody(page: Any, board: Path) -> None:
    page.get_log("browser"), page.get_log("performance")
    page.get((board / "index.html").as_uri())
    find(page, "#next").click()
    find(page, "#theme").click()
    assert page.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = {
        event["params"]["request"]["url"].split(",")[0][:60]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert {url.split(":")[0] for url in asked} == {"file", "data"}
    assert len([url for url in asked if url.startswith("file")]) == 1


def test_slider_follows_pointer_and_keys(page: Any) -> None:
    from selenium.webdriver import ActionChains, Keys

    stage = find(page, "#stage")
    page.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", stage)
    task = json.loads(find(page, "#data").get_property("textContent"))["tasks"][0]
    middle = task["focus"][0] + task["focus"][2] / 2
    assert cut(page) == pytest.approx(100 * middle / task["width"], abs=0.6)
    quarter = stage.size["width"] // 4
    ActionChains(page).move_to_element(stage).click_and_hold().move_by_offset(
        quarter, 0
    ).release().perform()
    assert cut(page) == pytest.approx(75, abs=1.5)
    before = cut(page)
    find(page, "#slider").send_keys(Keys.ARROW_LEFT * 3)
    assert cut(page) == before - 3
    find(page, "#slider").send_keys(Keys.HOME)
    assert cut(page) == 0
    right = find(page, "#right")
    assert right.value_of_css_property("clip-path") in ("inset(0px 0px 0px 0%)", "inset(0px)")


def test_choosing_task_eraser_and_side_changes_the_pictures(page: Any) -> None:
    first = pictures(page, "right")
    assert len(first) == 2 and len(pictures(page, "left")) == 1
    pick(page, "#right-choice", "fair")
    other = pictures(page, "right")
    assert other[0] == first[0] and other[1] != first[1]
    assert find(page, "#right-tag").text == "fair"
    pick(page, "#left-choice", "Truth")
    assert len(pictures(page, "left")) == 2
    pick(page, "#task", "scene-004-single")
    assert pictures(page, "right")[0] != other[0]
    find(page, "#previous").click()
    assert find(page, "#task").get_property("value") == "3"
    pick(page, "#right-choice", HOSTILE)
    assert pictures(page, "right") == []
    assert REASON in find(page, "#failed").text
    find(page, '#film button[data-choice="truth"]').click()
    assert find(page, "#right-tag").text == "Truth"


def test_crops_lie_where_they_belong(page: Any) -> None:
    """What the page draws is the result, to the loss of WebP."""
    boxes = page.execute_script(
        "return [...document.querySelectorAll('#right img')].map(i => {"
        "const r = i.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]})"
    )
    data = json.loads(find(page, "#data").get_property("textContent"))
    task, place = data["tasks"][0], data["erasers"].index("good")
    scale = boxes[0][2] / task["width"]
    x, y, width, height, _ = task["results"][place]
    wanted = [boxes[0][0] + x * scale, boxes[0][1] + y * scale, width * scale, height * scale]
    assert boxes[1] == pytest.approx(wanted, abs=0.6)


def test_outline_goes_and_comes(page: Any) -> None:
    assert find(page, "#outline .over").get_attribute("d").startswith("M")
    assert find(page, "#outline").is_displayed()
    find(page, "#show-outline").click()
    assert not find(page, "#outline").is_displayed()


def test_sorting_by_header_mouse_and_keyboard(page: Any) -> None:
    from selenium.webdriver import Keys

    names = ".group:not([hidden]) tbody.rows:not(.controls) th.name"
    heads = ".group:not([hidden]) thead th[aria-sort]"
    ranked = ["good", "fair"]
    shown = [text.split("\n")[0] for text in texts(page, names)]
    assert [name for name in shown if name in ranked] == ranked
    assert shown[-1] == HOSTILE  # no mean: last
    head = page.find_elements("css selector", heads)[2]
    button = head.find_element("css selector", "button")
    button.click()
    assert head.get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "descending"
    shown = [text.split("\n")[0] for text in texts(page, names)]
    assert shown == ["fair", "good", HOSTILE]
    others = [item.get_attribute("aria-sort") for item in page.find_elements("css selector", heads)]
    assert others.count("none") == len(others) - 1
    controls = texts(page, ".group:not([hidden]) tbody.controls th.name")
    assert len(controls) == 2


def test_metrics_of_other_regions_and_slices_can_be_chosen(page: Any) -> None:
    assert len(page.find_elements("css selector", ".group:not([hidden])")) == 1
    pick(page, "#table-group", "Hole, composited")
    assert find(page, ".group:not([hidden])").get_attribute("data-group") == "hole-composited"
    pick(page, "#slice-metric", "Likeness, hole, composited ↑")
    shown = page.find_elements("css selector", ".slice-set:not([hidden])")
    assert [item.get_attribute("data-key") for item in shown] == ["likeness/hole/composited"]
    panels = page.find_elements("css selector", ".slice-set:not([hidden]) .panel")
    assert all(panel.size["height"] > 20 for panel in panels)


def test_worst_task_opens_in_the_comparison(page: Any) -> None:
    button = page.find_elements("css selector", '.worst button[data-open="fair"]')[1]
    assert len(button.find_elements("css selector", ".thumb img")) == 2
    opens(page, button, "fair")


def opens(page: Any, button: Any, label: str) -> None:
    task = button.get_attribute("data-task")
    page.execute_script("arguments[0].click()", button)
    assert find(page, "#right-tag").text == label
    options = texts(page, "#task option")
    assert options[int(find(page, "#task").get_property("value"))] == task


def test_a_failure_shows_input_result_and_truth(page: Any) -> None:
    case = find(page, '.cases button[data-open="fair"]')
    shots = case.find_elements("css selector", ".thumb")
    drawn = [len(shot.find_elements("css selector", "img")) for shot in shots]
    assert drawn == [1, 2, 2]  # the input alone, and crops of the others over it
    assert "best here" in case.text and "people" in case.text
    opens(page, case, "fair")
    assert REASON in find(page, "#failures").text


def test_layers_stand_beside_their_background(page: Any) -> None:
    row = find(page, ".layers[open] .layer-row")
    frames = row.find_elements("css selector", ".frame")
    assert [len(frame.find_elements("css selector", "img")) for frame in frames] == [1, 2]
    assert all(frame.size["width"] > 50 for frame in frames)
    layers = row.find_elements("css selector", ".checker img")
    assert layers and all(layer.get_property("naturalWidth") > 0 for layer in layers)
    opens(page, row.find_elements("css selector", "button")[1], "good")


def test_dark_mode_follows_the_system_and_the_button(page: Any) -> None:
    def brightness() -> float:
        colour = find(page, "body").value_of_css_property("background-color")
        numbers = colour[colour.index("(") + 1 : -1].split(",")[:3]
        return sum(float(number) for number in numbers) / 3

    assert brightness() > 200
    screen(page, 1280, scheme="dark")
    assert brightness() < 60
    find(page, "#theme").click()
    assert brightness() > 200
    page.refresh()
    assert brightness() > 200  # remembered


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_do_not_scroll_sideways(page: Any, width: int) -> None:
    screen(page, width, scheme="light")
    page.refresh()
    for details in page.find_elements("css selector", "details"):
        page.execute_script("arguments[0].open = true", details)
    inside, across = page.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    assert across == width and inside <= width
    stage = find(page, "#stage").rect
    assert stage["x"] >= 0 and stage["x"] + stage["width"] <= width


def test_hostile_text_is_shown_as_text(page: Any, board: Path) -> None:
    assert page.find_elements("css selector", "img[onerror], [src=x]") == []
    assert HOSTILE in [text.split("\n")[0] for text in texts(page, "th.name")]
    assert len(page.find_elements("css selector", "script")) == 2
    assert "<script>alert(2)" not in (board / "index.html").read_text()
    assert "<img src=x" not in (board / "board.md").read_text()


def test_page_without_pictures_says_so(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", sample_record("a", quality=0.7, bootstrap=100))
    write_json(tmp_path / "b.json", sample_record("b", quality=0.5, bootstrap=100))
    summary = build_board([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "board")
    text = summary.page.read_text()
    assert "No pictures on this page: it was made from record files alone." in text
    assert 'id="stage"' not in text and "data:image" not in text
    assert summary.pictures == 0


def test_long_names_break_between_settings(tmp_path: Path) -> None:
    name = "mild[hmg=parsing,sma=off]"
    write_json(tmp_path / "a.json", sample_record(name, quality=0.7, bootstrap=100))
    write_json(tmp_path / "b.json", sample_record(HOSTILE, quality=0.5, bootstrap=100))
    text = build_board([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "board").page
    assert text.read_text().count(">mild[<wbr>hmg=parsing,<wbr>sma=off]<") >= 2
    assert "<img src=x" not in text.read_text()


def test_board_can_be_made_again_from_its_records(board: Path, tmp_path: Path) -> None:
    build_board(sorted((board / "records").glob("*.json")), tmp_path / "again")
    for name in ("board.json", "board.csv", "board.md"):
        assert (tmp_path / "again" / name).read_bytes() == (board / name).read_bytes(), name


def test_release_that_moved_is_named_or_missed(runs: list[Path], tmp_path: Path) -> None:
    moved = shutil.copytree(runs[2], tmp_path / "elsewhere" / "run")
    summary = build_board([moved], tmp_path / "board", picture_size=64)
    assert "name it with --release" in summary.why_no_pictures
    release = runs[2].parent / "release"
    summary = build_board([moved], tmp_path / "board", picture_size=64, release=release)
    assert summary.pictures == 12


def test_wrong_input_is_one_clear_line(runs: list[Path], tmp_path: Path) -> None:
    run = shutil.copytree(runs[2], tmp_path / "run")
    shutil.copytree(runs[2].parent / "release", tmp_path / "release")
    (run / "results" / "scene-000-all.png").write_bytes(encode_png(np.zeros((96, 96, 3), np.uint8)))
    with pytest.raises(BadInput, match="expected the picture that was erased and scored"):
        build_board([run], tmp_path / "board")
    with pytest.raises(BadInput, match="holds a run or a release"):
        build_board([run], run)
    with pytest.raises(BadInput, match="mild-bench score"):
        build_board([tmp_path / "release"], tmp_path / "board")
    with pytest.raises(BadInput, match="expected 64 to 2048, got 8"):
        build_board([run], tmp_path / "board", picture_size=8)
    manifest = read_json(tmp_path / "release" / "manifest.json")
    manifest["files"]["README.md"] = "00" * 32
    write_json(tmp_path / "release" / "manifest.json", manifest)
    with pytest.raises(BadInput, match="expected the release that was scored"):
        build_board([run], tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_old_records_leave_a_board_that_is_built_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_json(tmp_path / f"{name}.json", sample_record(name, bootstrap=100))
    build_board([tmp_path / "a.json", tmp_path / "b.json"], tmp_path / "board")
    build_board([tmp_path / "b.json"], tmp_path / "board")
    assert [path.name for path in (tmp_path / "board" / "records").iterdir()] == ["b.json"]


def test_killed_and_started_again_ends_with_the_same_bytes(
    board: Path, runs: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "board"
    code = (
        "import sys; from pathlib import Path; from mild_bench.run.board import build_board; "
        "build_board([Path(p) for p in sys.argv[2:]], Path(sys.argv[1]), picture_size=96)"
    )
    command = [sys.executable, "-c", code, str(out), *map(str, reversed(runs))]
    for sign in ("records/good.json", "board.csv"):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not (out / sign).exists() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    build_board(runs, out, picture_size=96)
    wanted = {path.relative_to(board): path for path in board.rglob("*") if path.is_file()}
    found = {path.relative_to(out): path for path in out.rglob("*") if path.is_file()}
    assert found.keys() == wanted.keys()
    assert [n for n in wanted if wanted[n].read_bytes() != found[n].read_bytes()] == []


def test_crop_over_input_is_the_result() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:120, 0:200]
    source = np.dstack([x, y, x // 2 + y // 2]).astype(np.uint8)
    mask = np.zeros((120, 200), bool)
    mask[30:90, 60:110] = True
    result = source.copy()
    result[mask] = np.clip(source[mask] + rng.normal(60, 2, (mask.sum(), 3)), 0, 255)
    found = task_pictures(source, mask, source, {"a": result}, size=100)
    assert (found.width, found.height) == (100, 60)
    assert found.truth is not None and found.truth.width == 0
    crop = found.results["a"]
    assert (crop.x, crop.y) <= (30, 15) and crop.width < 40 and crop.height < 45
    drawn = decode(found.input)
    drawn[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width] = decode(crop.uri)
    error = np.square(drawn.astype(float) - shrink(result, 100)).mean()
    assert 10 * np.log10(255**2 / error) > 30


def test_outline_follows_the_mask() -> None:
    mask = np.zeros((100, 100), bool)
    mask[20:60, 0:50] = True  # touches the frame
    path = outline(mask, (100, 100))
    points = [tuple(map(float, p.split())) for p in path.strip("MZ").split("L")]
    xs, ys = np.array(points).T
    assert xs.min() == pytest.approx(0, abs=0.6) and xs.max() == pytest.approx(50, abs=0.6)
    assert ys.min() == pytest.approx(20, abs=0.6) and ys.max() == pytest.approx(60, abs=0.6)


def test_terminal_table_fits_eighty_columns(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["board", "show", str(board)])
    assert shown.exit_code == 0
    assert max(len(line) for line in shown.output.splitlines()) <= 80
    assert "good" in shown.output and "Error ↓" in shown.output


def test_command_builds_and_prints(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", sample_record("a", bootstrap=100))
    arguments = ["board", "build", str(tmp_path / "a.json"), "--out", str(tmp_path / "board")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Board:" in done.output and (tmp_path / "board" / "index.html").is_file()
    assert read_json(tmp_path / "board" / "board.json")["rows"][0]["cells"][PRIMARY]["tasks"] == 36


def decode(uri: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    data = base64.b64decode(uri.split(",")[1])
    return np.array(Image.open(io.BytesIO(data)).convert("RGB"))
