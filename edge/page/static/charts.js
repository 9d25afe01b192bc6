// Trends of tags, and lines over time. What is not known is an empty, hatched stretch, and never drawn through.

import { age, el, hours, moment, svg } from "./text.js";

const WIDTH = 120, HEIGHT = 24;

// The last ten minutes of a tag: a cell is a number, "x" for BAD, "g" for a gap, null for nothing. What is plausible
// is a faint band; a limit that the values come near is within the picture.
export function trend(cells, label, range) {
  const numbers = cells.filter((cell) => typeof cell === "number");
  let low = Math.min(...numbers), high = Math.max(...numbers);
  const step = WIDTH / cells.length, span = high - low;
  if (range && range[1] > high && range[1] - high < span) high = range[1];
  if (range && range[0] < low && low - range[0] < span) low = range[0];
  const y = (value) => (high > low ? HEIGHT - 3 - ((value - low) / (high - low)) * (HEIGHT - 6) : HEIGHT / 2);
  const drawing = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, preserveAspectRatio: "none" });
  if (range && numbers.length) {
    const within = (value) => Math.max(0, Math.min(HEIGHT, high > low ? y(value) : value > high ? 0 : value < low ? HEIGHT : HEIGHT / 2));
    const top = within(range[1]), bottom = within(range[0]);
    drawing.append(svg("rect", { x: 0, y: top, width: WIDTH, height: Math.max(0, bottom - top), class: "range" }));
  }
  let path = "", before = null;
  const marks = [];
  cells.forEach((cell, number) => {
    const x = number * step;
    if (typeof cell === "number") {
      path += `${before === null ? "M" : "L"}${(x + step / 2).toFixed(1)} ${y(cell).toFixed(1)}`;
      if (before === null) path += "h0.01";
      before = cell;
      return;
    }
    before = null;
    if (cell !== null) marks.push([x, cell]);
  });
  for (const [start, end, kind] of runs(marks, step)) {
    if (kind === "g") drawing.append(svg("rect", { x: start, y: 0, width: end - start, height: HEIGHT, class: "gap" }));
    else drawing.append(svg("path", { d: `M${start} ${HEIGHT - 2}H${end}`, class: "bad" }));
  }
  if (path) drawing.append(svg("path", { d: path, class: "line" }));
  return drawing;
}

function runs(marks, step) {
  const found = [];
  for (const [x, kind] of marks) {
    const last = found.at(-1);
    if (last && last[2] === kind && Math.abs(last[1] - x) < step / 2) last[1] = x + step;
    else found.push([x, x + step, kind]);
  }
  return found;
}

// Lines on one scale from zero. `series`: {name, values, mark}, all of the same span.
export function lines(place, all, { from, span, unit, format, none }) {
  const series = all.filter((one, number) => !number || one.values.some((value) => value !== null));
  const known = series.flatMap((one) => one.values).filter((value) => value !== null);
  if (!known.length) {
    place.replaceChildren(el("p", { class: "empty" }, none));
    return;
  }
  const top = nice(Math.max(...known));
  const count = series[0].values.length;
  const x = (point) => (point / (count - 1)) * 100, y = (value) => 100 - (value / top) * 96;
  const drawing = svg("svg", { viewBox: "0 0 100 100", preserveAspectRatio: "none", "aria-hidden": "true" });
  for (const [start, end] of holes(series)) {
    drawing.append(svg("rect", { x: x(start), y: 0, width: Math.max(0.1, x(end) - x(start)), height: 100, class: start ? "gap" : "unwatched" }));
  }
  for (const one of series) {
    let path = "", is_down = false;
    one.values.forEach((value, point) => {
      if (value === null) is_down = false;
      else {
        path += `${is_down ? "L" : "M"}${x(point).toFixed(2)} ${y(value).toFixed(2)}` + (is_down ? "" : "h0.01");
        is_down = true;
      }
    });
    drawing.append(svg("path", { d: path, class: `line ${one.mark}` }));
  }
  const unwatched = holes(series).find(([start, end]) => !start && x(end) > 40);
  const last = series.map((one) => one.values.findLast((value) => value !== null));
  const key = series.map((one, number) => el("li", { class: one.mark }, `${one.name} `,
    el("b", {}, last[number] === undefined ? "unknown" : format(last[number])), el("span", { class: "unit" }, ` ${unit}`)));
  const said = series.map((one, number) => `${one.name} ${last[number] === undefined ? "unknown" : `${format(last[number])} ${unit}`}`);
  const caption = el("span", { class: "reading" });
  const figure = el("div", { class: "plot", role: "img", tabindex: "0",
    "aria-label": `${said.join(", ")} now; the scale ends at ${format(top)} ${unit}. Arrow keys read the past.` },
    el("span", { class: "top-label" }, format(top)), drawing,
    unwatched ? el("span", { class: "unwatched-label" }, "not watched yet") : "", caption);
  const read = (point) => {
    figure.point = Math.max(0, Math.min(count - 1, point));
    const values = series.map((one) => one.values[figure.point]);
    const at = from + (figure.point / (count - 1)) * span;
    caption.textContent = `${hours(at)}  ` + values.map((value) => (value === null ? "unknown" : `${format(value)} ${unit}`)).join(", ");
    caption.title = moment(at);
    figure.style.setProperty("--at", `${x(figure.point)}%`);
    figure.classList.add("read");
  };
  figure.addEventListener("pointermove", (event) => {
    const box = figure.getBoundingClientRect();
    read(Math.round(((event.clientX - box.left) / box.width) * (count - 1)));
  });
  figure.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) {
      read((figure.point ?? count - 1) + by);
      event.preventDefault();
    }
  });
  for (const leaving of ["pointerleave", "blur"]) figure.addEventListener(leaving, () => figure.classList.remove("read"));
  const before = place.querySelector(".plot");
  if (before && (before.classList.contains("read") || before === document.activeElement)) return;
  place.replaceChildren(el("ul", { class: "key" }, ...key), figure,
    el("div", { class: "axis" }, el("span", {}, `${age(span)} ago`), el("span", {}, "now")));
}

function holes(series) {
  const found = [];
  series[0].values.forEach((_, point) => {
    if (series.some((one) => one.values[point] !== null)) return;
    const last = found.at(-1);
    if (last && last[1] === point) last[1] = point + 1;
    else found.push([point, point + 1]);
  });
  return found;
}

function nice(value) {
  if (!(value > 0)) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * size).find((limit) => limit >= value);
}
