"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, values = {}) => Object.assign(document.createElement(tag), values);

  // Light and dark: the reader's choice wins over the system's.
  const root = document.documentElement;
  const remembered = () => { try { return localStorage.getItem("mild-bench-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("mild-bench-theme", theme); } catch { /* a file without storage */ } };
  if (remembered()) root.dataset.theme = remembered();
  one("#theme").addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    remember(root.dataset.theme);
  });

  // Sorting: best first, then the other way round; rows without a value stay last.
  const sort = (button) => {
    const head = button.closest("th");
    const row = head.parentElement;
    const column = [...row.children].indexOf(head);
    const kind = button.dataset.better;
    const first = kind === "higher" ? "descending" : "ascending";
    const second = first === "ascending" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === first ? second : first;
    const sign = order === "ascending" ? 1 : -1;
    for (const body of all("tbody.rows", head.closest("table"))) {
      const rows = [...body.rows].map((line) => ({ line, value: line.cells[column].dataset.value || "" }));
      rows.sort((a, b) => {
        if (!a.value || !b.value) return (a.value ? 0 : 1) - (b.value ? 0 : 1);
        return sign * (kind === "text" ? a.value.localeCompare(b.value) : a.value - b.value);
      });
      body.append(...rows.map((entry) => entry.line));
    }
    for (const other of all("th[aria-sort]", row)) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", order);
  };
  for (const button of all(".ranking thead button")) button.addEventListener("click", () => sort(button));

  // Selects that show one of several blocks.
  const choose = (select, blocks, name) => {
    const show = () => { for (const block of all(blocks)) block.hidden = block.dataset[name] !== one(select).value; };
    one(select).addEventListener("change", show);
    show();
  };
  choose("#table-group", ".group", "group");
  if (one("#slice-metric option")) choose("#slice-metric", ".slice-set", "key");

  const data = JSON.parse(one("#data").textContent);
  if (!data.tasks.length) return;

  // Pictures: the input, and a crop of what differs laid over it.
  const INPUT = "input", TRUTH = "truth";
  const names = [INPUT, TRUTH, ...data.erasers.map((_, place) => String(place))];
  const nameOf = (choice) => ({ [INPUT]: "Input", [TRUTH]: "Truth" })[choice] ?? data.erasers[choice];
  const cropOf = (task, choice) => choice === INPUT ? [0, 0, 0, 0, null] : choice === TRUTH ? task.truth : task.results[choice];
  const percent = (share) => `${share * 100}%`;
  const picture = (task, place, [x, y, width, height]) => {
    const image = make("img", { src: data.images[place], alt: "", draggable: false });
    image.style.left = percent(x / task.width);
    image.style.top = percent(y / task.height);
    image.style.width = percent(width / task.width);
    image.style.height = percent(height / task.height);
    return image;
  };
  const lay = (side, task, choice) => {
    const crop = cropOf(task, choice);
    side.replaceChildren();
    if (!crop) return;
    side.append(picture(task, task.input, [0, 0, task.width, task.height]));
    if (crop[2]) side.append(picture(task, crop[4], crop));
  };
  // A square thumbnail of a box: the whole task is scaled and shifted behind it.
  const thumbnail = (task, choice, [x, y, width, height]) => {
    const thumb = make("span", { className: "thumb" });
    const side = make("span", { className: "side" });
    const edge = Math.min(Math.max(width, height), task.width, task.height);
    const left = Math.min(Math.max(x + width / 2 - edge / 2, 0), task.width - edge);
    const top = Math.min(Math.max(y + height / 2 - edge / 2, 0), task.height - edge);
    side.style.inset = "auto";
    side.style.width = percent(task.width / edge);
    side.style.height = percent(task.height / edge);
    side.style.left = percent(-left / edge);
    side.style.top = percent(-top / edge);
    lay(side, task, choice);
    thumb.append(side);
    return thumb;
  };

  // The comparison.
  const state = { task: 0, left: INPUT, right: names.find((name) => cropOf(data.tasks[0], name) && name !== INPUT && name !== TRUTH) ?? TRUTH };
  const stage = one("#stage"), slider = one("#slider");
  const fill = (select, options) => select.append(...options.map(([value, text]) => make("option", { value, textContent: text })));
  fill(one("#task"), data.tasks.map((task, place) => [place, task.id]));
  for (const side of ["left", "right"]) fill(one(`#${side}-choice`), names.map((name) => [name, nameOf(name)]));

  const cut = (value) => {
    slider.value = value;
    stage.style.setProperty("--cut", `${slider.value}%`);
    slider.setAttribute("aria-valuetext", `${slider.value}% ${nameOf(state.left)}, the rest ${nameOf(state.right)}`);
  };
  const scoreOf = (task, choice, key) => choice === INPUT || choice === TRUTH ? "" : task.scores[choice][key];
  const draw = () => {
    const task = data.tasks[state.task];
    stage.style.aspectRatio = `${task.width} / ${task.height}`;
    stage.style.maxWidth = `calc(78vh * ${task.width / task.height})`;
    for (const side of ["left", "right"]) {
      lay(one(`#${side}`), task, state[side]);
      one(`#${side}-tag`).textContent = one(`#${side}-head`).textContent = nameOf(state[side]);
      one(`#${side}-choice`).value = state[side];
    }
    one("#task").value = state.task;
    one("#outline").setAttribute("viewBox", `0 0 ${task.width} ${task.height}`);
    for (const path of all("#outline path")) path.setAttribute("d", task.outline);
    one("#about").textContent = task.about.join(" · ");
    one("#scores").replaceChildren(...data.keys.map((title, key) => {
      const row = make("tr");
      row.append(make("th", { scope: "row", textContent: title }));
      for (const side of ["left", "right"]) row.append(make("td", { textContent: scoreOf(task, state[side], key) }));
      return row;
    }));
    const failed = ["left", "right"].map((side) => task.failed[state[side]] && `${nameOf(state[side])} has no result here: ${task.failed[state[side]]}`);
    one("#failed").textContent = failed.filter(Boolean).join("; ");
    one("#film").replaceChildren(...names.filter((name) => cropOf(task, name)).map((name) => {
      const button = make("button", { type: "button", title: nameOf(name) });
      button.dataset.choice = name;
      button.setAttribute("aria-pressed", String(name === state.right));
      button.append(thumbnail(task, name, [0, 0, task.width, task.height]), make("span", { textContent: nameOf(name) }));
      button.addEventListener("click", () => { set({ right: name }); one(`#film [data-choice="${name}"]`).focus({ preventScroll: true }); });
      return button;
    }));
    cut(slider.value);
  };
  const set = (change) => { Object.assign(state, change); draw(); };
  // A new task starts cut through the middle of what is erased.
  const go = (task, change = {}) => {
    set({ task, ...change });
    const { focus, width } = data.tasks[task];
    cut(Math.round(100 * (focus[0] + focus[2] / 2) / width));
  };
  const step = (by) => go((state.task + by + data.tasks.length) % data.tasks.length);

  one("#task").addEventListener("change", (event) => go(Number(event.target.value)));
  for (const side of ["left", "right"]) one(`#${side}-choice`).addEventListener("change", (event) => set({ [side]: event.target.value }));
  one("#previous").addEventListener("click", () => step(-1));
  one("#next").addEventListener("click", () => step(1));
  one("#show-outline").addEventListener("change", (event) => { one("#outline").style.display = event.target.checked ? "" : "none"; });
  slider.addEventListener("input", () => cut(slider.value));
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    cut(Math.round(100 * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1)));
  };
  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    slider.focus({ preventScroll: true });
    follow(event);
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) follow(event); });

  // Pictures in other sections, of what was erased or of the whole frame; their buttons open above.
  const places = new Map(data.tasks.map((task, place) => [task.id, place]));
  const placeOf = (label) => String(data.erasers.indexOf(label));
  for (const shot of all(".shot")) {
    const task = data.tasks[places.get(shot.dataset.task)];
    if (!task) continue;
    const { show, eraser } = shot.dataset;
    const choice = show === "result" ? placeOf(eraser) : show;
    if (shot.classList.contains("frame")) {
      const side = make("span", { className: "side" });
      lay(side, task, choice);
      shot.style.aspectRatio = `${task.width} / ${task.height}`;
      shot.append(side);
    } else shot.replaceWith(thumbnail(task, choice, task.focus));
  }
  const open = (button) => {
    go(places.get(button.dataset.task), { right: placeOf(button.dataset.open) });
    one("#look").scrollIntoView();
  };
  for (const button of all("button[data-open]")) {
    if (!places.has(button.dataset.task)) button.disabled = true;
    else button.addEventListener("click", () => open(button));
  }
  go(0);
})();
