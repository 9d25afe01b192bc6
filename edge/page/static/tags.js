// The table of tags: of thousands, only the rows in view exist and are asked for.

import { trend } from "./charts.js";
import { $, age, debounce, el, empty, moment, name, now, setClock } from "./text.js";

const COLUMNS = [["tag", "Tag"], ["device", "Device"], ["value", "Value"], ["unit", "Unit"], ["quality", "Quality"], ["age", "Age"], ["trend", "Last 10 min"]];
const SPARE = 6, ROOM_PRINTED = 1600;

let of = "", version = "", tags = [], shown = [], device = null, order = "problems", stream = null, asked = "";
let bad = new Set();
const values = new Map(), trends = new Map(), read_at = new Map(), rows = new Map();
let body = null, above = null, below = null;

export async function showTags(source, wanted, is_tagged) {
  if (!is_tagged) {
    stop();
    version = "";
    $("tags").hidden = true;
    return;
  }
  $("tags").hidden = false;
  if (source === of && wanted === version) {
    if (stream === null && wanted) listen();
    return;
  }
  [of, version] = [source, wanted];
  stop();
  if (!wanted) {
    $("tag-window").replaceChildren(empty("The values are being read for the first time."));
    return;
  }
  const answer = await fetch(`tags?of=${encodeURIComponent(of)}`);
  if (!answer.ok) { version = ""; return; }
  const document_ = await answer.json();
  tags = document_.groups.flatMap((group, number) => group.tags.map((tag, at) => (
    { tag, unit: group.units[at], range: group.ranges[at], device: group.device, group: number, number: 0, key: `${tag}\n${group.device}`.toLowerCase() })));
  tags.forEach((tag, number) => { tag.number = number; });
  for (const map of [values, trends, read_at]) map.clear();
  bad = new Set();
  build();
  filterTags();
}

function build() {
  const head = el("tr", { role: "row" }, ...COLUMNS.map(([key, title]) => el("th", { scope: "col", class: key, role: "columnheader",
    "aria-sort": { tag: "tag", quality: "problems" }[key] === order ? "ascending" : null },
    key === "tag" || key === "quality" ? el("button", { type: "button", onclick: () => sort(key) }, title) : title)));
  above = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td", { colspan: COLUMNS.length }));
  below = el("tr", { class: "spacer", "aria-hidden": "true" }, el("td", { colspan: COLUMNS.length }));
  body = el("tbody", { role: "rowgroup" });
  $("tag-window").replaceChildren(el("table", { class: "tags", role: "table", "aria-labelledby": "h-tags" }, el("thead", { role: "rowgroup" }, head), body));
}

function sort(key) {
  order = key === "quality" ? (order === "problems" ? "file" : "problems") : order === "tag" ? "file" : "tag";
  build();
  filterTags();
}

export function filterTags(chosen) {
  if (chosen !== undefined) device = chosen;
  if (!body) return;
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  shown = tags.filter((tag) => (device === null || tag.device === device) && words.every((word) => tag.key.includes(word)));
  if (order === "tag") shown.sort((a, b) => (a.tag < b.tag ? -1 : a.tag > b.tag ? 1 : a.number - b.number));
  if (order === "problems") shown = [...shown.filter((tag) => bad.has(tag.number)), ...shown.filter((tag) => !bad.has(tag.number))];
  $("tag-count").textContent = shown.length === tags.length ? `${tags.length.toLocaleString("en")}` : `${shown.length.toLocaleString("en")} of ${tags.length.toLocaleString("en")}`;
  $("one-device").hidden = device === null;
  $("one-device").textContent = `of ${device} only; show all`;
  document.querySelector("table.tags").setAttribute("aria-rowcount", shown.length + 1);
  for (const row of rows.values()) row.remove();
  rows.clear();
  draw();
}

const height = () => (innerWidth < 720 ? 64 : 32);  // As --row of the style sheet.

function inView() {
  const window_ = $("tag-window"), row = height(), limit = parseFloat(getComputedStyle(window_).maxHeight);
  const room = limit || ROOM_PRINTED;
  const first = Math.max(0, Math.floor(window_.scrollTop / row) - SPARE);
  return [first, Math.min(shown.length, Math.ceil((window_.scrollTop + room) / row) + SPARE)];
}

function draw() {
  if (!body) return;
  const [first, end] = inView(), row = height();
  if (!shown.length) {
    body.replaceChildren(el("tr", {}, el("td", { colspan: COLUMNS.length }, empty("No tag has such a name; Escape shows all."))));
    return;
  }
  above.firstChild.style.height = `${first * row}px`;
  below.firstChild.style.height = `${(shown.length - end) * row}px`;
  const wanted = shown.slice(first, end), kept = new Set(wanted.map((tag) => tag.number));
  for (const [number, element] of rows) if (!kept.has(number)) { element.remove(); rows.delete(number); }
  const elements = wanted.map((tag, at) => {
    let element = rows.get(tag.number);
    if (!element) {
      element = el("tr", { role: "row" }, ...COLUMNS.map(([key]) => el("td", { class: key, role: "cell" })));
      element.children[0].append(name(tag.tag));
      element.children[1].append(name(tag.device));
      element.children[3].textContent = tag.unit;
      rows.set(tag.number, element);
      update(tag.number);
      drawTrend(tag.number);
    }
    element.setAttribute("aria-rowindex", first + at + 2);
    return element;
  });
  body.replaceChildren(above, ...elements, below);
  ages();
  listenSoon();
}

function update(number) {
  const row = rows.get(number), known = values.get(number);
  if (!row || !known) return;
  const [value, quality, reason, whole] = known, [, , cell, , judged] = row.children;
  const [, head, dot, tail] = value.match(/^(-?[\d,]+)(?:(\.)(\d+))?$/) ?? [];
  const parts = head === undefined ? [el("span", { class: "text" }, value)] : [head, el("span", { class: "fraction" }, dot ? `.${tail}` : "")];
  if (cell.dataset.value !== value) {
    cell.replaceChildren(el("span", { class: cell.dataset.value === undefined ? "" : "changed" }, ...parts));
    cell.dataset.value = value;
    cell.title = whole;
  }
  if (judged.dataset.said !== quality + reason) {
    judged.dataset.said = quality + reason;
    judged.replaceChildren(el("span", { class: "state", "data-state": quality }, quality), reason ? ` ${reason}` : "");
    judged.title = reason;
  }
}

function drawTrend(number) {
  const row = rows.get(number), cells = trends.get(number);
  if (!row || !cells) return;
  const numbers = cells.filter((cell) => typeof cell === "number");
  const said = numbers.length ? `from ${Math.min(...numbers)} to ${Math.max(...numbers)} in the last 10 minutes` : "no numbers in the last 10 minutes";
  const { range, unit } = tags[number];
  row.lastChild.replaceChildren(trend(cells, said, range));
  row.lastChild.title = range ? `plausible from ${range[0]} to ${range[1]} ${unit}`.trim() : "";
}

export function ages() {
  for (const [number, row] of rows) {
    const at = read_at.get(tags[number].group), cell = row.children[5];
    const text = at === undefined ? "" : age(now() - at);
    if (cell.textContent !== text) {
      const space = text.indexOf(" ");
      cell.replaceChildren(text.slice(0, Math.max(0, space)), el("span", { class: "unit" }, text.slice(Math.max(0, space))));
    }
    if (at !== undefined) cell.title = moment(at);
  }
}

function ranges(numbers) {
  const found = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = found.at(-1);
    if (last && last[1] === number - 1) last[1] = number;
    else found.push([number, number]);
  }
  return found.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(",");
}

const listenSoon = debounce(listen, 120);

function listen() {
  if (document.hidden || !version || !body) return;
  const wanted = ranges(rows.keys());
  if (!is_seen) { stop(); return; }
  if (stream && asked === wanted && stream.readyState !== EventSource.CLOSED) return;
  stop();
  asked = wanted;
  if (!wanted) return;
  stream = new EventSource(`values?of=${encodeURIComponent(of)}&tags=${version}&rows=${wanted}`);
  stream.addEventListener("values", (event) => take(JSON.parse(event.data)));
}

function take(data) {
  setClock(data.now);
  for (const [number, cells] of data.trends ?? []) {
    trends.set(number, [...(cells.length < 120 ? trends.get(number) ?? [] : []), ...cells].slice(-120));
    drawTrend(number);
  }
  for (const [number, ...known] of data.rows ?? []) {
    values.set(number, known);
    update(number);
  }
  for (const [group, at] of Object.entries(data.at ?? {})) read_at.set(Number(group), at);
  if (data.not_good) {
    const is_same = data.not_good.length === bad.size && data.not_good.every((number) => bad.has(number));
    bad = new Set(data.not_good);
    // Nothing moves under the eyes of who has scrolled.
    if (!is_same && order === "problems" && $("tag-window").scrollTop < height()) filterTags();
  }
  ages();
}

export function stop() {
  if (stream) stream.close();
  [stream, asked] = [null, ""];
}

let is_seen = false;
new IntersectionObserver((entries) => {
  is_seen = entries.at(-1).isIntersecting;
  listenSoon();
}).observe($("tag-window"));
$("tag-window").addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
addEventListener("resize", debounce(draw, 100));
addEventListener("visibilitychange", () => (document.hidden ? stop() : listenSoon()));
$("filter").addEventListener("input", debounce(() => filterTags(), 80));
$("one-device").addEventListener("click", () => { filterTags(null); $("tag-window").focus(); });
