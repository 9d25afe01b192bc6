// The page: one stream brings a status a second; while none comes, the figures stay, grey, and their age is said.

import { lines } from "./charts.js";
import { showRecent } from "./events.js";
import { showLanes } from "./lanes.js";
import { ages, filterTags, showTags, stop } from "./tags.js";
import { $, age, browserAhead, clock, debounce, el, empty, moment, name, now, quantity, setClock, state, utc, zone } from "./text.js";

const SILENT_MS = 4000, CLOCKS_APART_MS = 5000;
const TABLES = {
  devices: [["name", "Device"], ["state", "State"], ["protocol", "Protocol"], ["address", "Address"], ["tags", "Tags"], ["bad", "BAD"], ["last", "Last scan"], ["takes", "Takes"], ["missed", "Missed in 1 h"], ["reason", "Reason"]],
  gateways: [["name", "Gateway"], ["state", "State"], ["last", "Last record"], ["lag", "Lag"], ["missing", "Missing"], ["refused", "Refused"], ["waiting", "Waiting"], ["records", "Records"]],
};
const SINKS = [["name", "Sink"], ["state", "State"], ["lag", "Lag"], ["to_go", "To go"], ["records", "Written"], ["refused", "Refused"], ["reason", "Where, or why not"]];
const RANK = { DOWN: 0, DEGRADED: 1, SILENT: 1, CONNECTING: 2 };
const TEXTS = new Set(["name", "state", "protocol", "address", "reason"]);

let of = new URLSearchParams(location.search).get("of") ?? "", stream = null, heard = -Infinity, span = null;
let kind = "", rows = new Map(), order = "state", is_down = false, opened = null, away = null, last = null;

function listen() {
  stream?.close();
  stream = new EventSource(`events?of=${encodeURIComponent(of)}`);
  stream.addEventListener("overview", (event) => overview(JSON.parse(event.data)));
  stream.addEventListener("rows", (event) => takeRows(JSON.parse(event.data)));
  stream.addEventListener("recent", (event) => showRecent(JSON.parse(event.data), kind));
  stream.addEventListener("error", () => setTimeout(() => stream.readyState === EventSource.CLOSED && listen(), 1000));
}

function overview(data) {
  setClock(data.now, data.zone);
  [heard, away] = [performance.now(), data.away];
  if (last === null) history();
  last = data;
  if (!of) of = data.of;
  sources(data.sources);
  if (data.overview.name) draw(data.overview);
  else $("name").textContent = data.sources.find(([key]) => key === of)?.[1] ?? "Tidegate";
  connection();
  showTags(data.of, data.tags, data.is_tagged);
  $("h-gateway").textContent = kind === "gateways" ? "Relay" : "Gateway";
}

function sources(all) {
  const nav = $("sources"), text = JSON.stringify([all, of]);
  if (nav.dataset.text === text) return;
  nav.dataset.text = text;
  nav.replaceChildren(el("strong", {}, "Tidegate"), ...(all.length < 2 ? [] : all.map(([key, title, verdict]) => el("a",
    { href: `?of=${encodeURIComponent(key)}`, "aria-current": key === of ? "page" : null }, `${title} `, verdict === "OK" ? "" : state(verdict)))));
}

function draw(data) {
  kind = data.kind;
  $("name").textContent = data.name;
  const table = TABLES[kind];
  $("h-rows").textContent = kind === "gateways" ? "Gateways" : "Devices";
  $("filter").placeholder = kind === "gateways" ? "names of gateways" : "names of devices and tags";
  say("word", data.verdict);
  say("sentence", data.sentence);
  update($("tiles"), data.tiles, (tile) => el("li", { "data-state": tile.word }, el("h2", {}, tile.title), state(tile.word),
    el("p", { class: "number" }, tile.number, el("span", { class: "unit" }, ` ${tile.unit}`)), el("p", {}, tile.line)));
  update($("problems").firstElementChild, data.problems, ([word, subject, text, help]) => el("li", { "data-state": word },
    state(word === "NOTICE" ? "notice" : word), el("p", {}, el("b", {}, subject), ` ${text}`, help ? el("span", { class: "help" }, ` ${capital(help)}.`) : "")));
  $("problems").hidden = !data.problems.length;
  for (const place of ["gateway", "buffer", "clock"]) facts($(`${place}-facts`), data.facts[place] ?? []);
  $("h-clock").parentElement.parentElement.hidden = !data.facts.clock && kind !== "gateways";
  $("h-clock").textContent = kind === "gateways" ? "Lag" : "Clock";
  $("h-buffer").textContent = kind === "gateways" ? "Archive" : "Buffer and uplink";
  certificates(data.certificates);
  sinks(data.sinks);
  if ($("rows").dataset.kind !== kind) {
    $("rows").dataset.kind = kind;
    $("rows").replaceChildren(el("table", { class: "rows", role: "table", "aria-labelledby": "h-rows" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
      ...table.map(([key, title]) => el("th", { scope: "col", class: key, role: "columnheader" }, el("button", { type: "button", onclick: () => sort(key) }, title))))),
      el("tbody", { role: "rowgroup" })));
  }
}

const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);

function say(id, text) {
  if ($(id).textContent === text) return;
  $(id).textContent = text;
  if (id === "word") $("verdict").dataset.state = text;
}

// Only what changed is replaced: nothing flickers, and focus stays.
function update(list, items, make) {
  items.forEach((item, at) => {
    const text = JSON.stringify(item), before = list.children[at];
    if (before?.dataset.text === text) return;
    const element = make(item);
    element.dataset.text = text;
    if (before) before.replaceWith(element);
    else list.append(element);
  });
  while (list.children.length > items.length) list.lastChild.remove();
}

function facts(list, pairs) {
  update(list, pairs, ([label, text]) => el("div", {}, el("dt", {}, label), el("dd", {}, ...text.split(/(?<=[:/])/).flatMap((part) => [part, el("wbr")]))));
}

function certificates(all) {
  const place = $("certificates");
  if (place.dataset.text === JSON.stringify(all)) return;
  place.dataset.text = JSON.stringify(all);
  if (!all.length) {
    place.replaceChildren(empty("No connection uses one. TLS is set up in the configuration:", "docs/how-to/certificates.md"));
    return;
  }
  place.replaceChildren(el("ul", { class: "certificates" }, ...all.map((each) => el("li", { title: moment(each.at) },
    el("span", {}, name(each.what), el("small", {}, ` ${each.whose}${each.exception ? `; ${each.exception}` : ""}`)),
    el("span", { class: "days" }, each.state ? state(each.state) : "", ` ${each.days.toLocaleString("en")}`, el("span", { class: "unit" }, " days left"))))));
}

function sinks(all) {
  const place = $("sinks"), text = JSON.stringify(all);
  place.parentElement.hidden = !all.length;
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren(el("table", { class: "rows sinks", role: "table", "aria-labelledby": "h-sinks" }, el("thead", { role: "rowgroup" }, el("tr", { role: "row" },
    ...SINKS.map(([key, title]) => el("th", { scope: "col", class: key, role: "columnheader" }, title)))),
  el("tbody", { role: "rowgroup" }, ...all.map((sink) => line(sink, false, SINKS)))));
}

function takeRows(data) {
  if (data.all) rows = new Map();
  for (const row of data.rows ?? []) rows.set(row.name, row);
  drawRows();
}

function sort(key) {
  [order, is_down] = [key, order === key ? !is_down : !TEXTS.has(key)];
  drawRows();
}

const rank = (row) => RANK[row.state.toUpperCase()] ?? 3;

function drawRows() {
  const body = $("rows").querySelector("tbody");
  if (!body || !kind) return;
  const columns = TABLES[kind], words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...rows.values()].filter((row) => words.every((word) => row.name.toLowerCase().includes(word)));
  const by = (row) => (order === "state" ? rank(row) : row[order] ?? -1);
  chosen.sort((a, b) => (by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0) * (is_down ? -1 : 1));
  for (const [at, [key]] of columns.entries()) {
    const head = $("rows").querySelector("thead tr").children[at];
    if (key === order) head.setAttribute("aria-sort", is_down ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
  }
  // While a name is filtered that only tags have, all devices stay.
  const shown = chosen.length || !words.length ? chosen : [...rows.values()];
  const items = shown.flatMap((row) => (row.name === opened ? [["open", row], ["details", row]] : [["row", row]]));
  update(body, items, ([what, row]) => (what === "details" ? details(row, columns.length) : line(row, what === "open", columns)));
  if (!rows.size) body.replaceChildren(el("tr", {}, el("td", { colspan: columns.length }, kind === "gateways"
    ? empty("No gateway has sent a record yet. Look at one on its machine:", "tidegate status")
    : empty("This process reads no devices.", "tidegate run --role acquire"))));
  tick();
}

function line(row, is_open, columns) {
  const cells = columns.map(([key, title]) => {
    const cell = el("td", { class: key, role: "cell", "data-title": title });
    if (key === "name") cell.append(kind === "devices" ? el("button", { type: "button", "aria-expanded": is_open, onclick: () => open(row.name) }, name(row.name)) : name(row.name));
    else if (key === "state") cell.append(state(row.state));
    else if (key === "last") cell.dataset.at = row.last ?? "";
    else if (TEXTS.has(key)) { cell.textContent = row[key]; cell.title = row[key]; }
    else cell.append(...quantity(typeof row[key] === "number" ? row[key].toLocaleString("en") : row[key] || "–"));
    if (["bad", "missed", "missing", "refused"].includes(key) && row[key]) cell.classList.add("some");
    return cell;
  });
  return el("tr", { role: "row", "data-state": row.state.toUpperCase() }, ...cells);
}

function details(row, width) {
  const pairs = [["Address", row.address], ["Identity", row.identity], ["Clock", row.clock], ["Why", row.reason], ["What helps", capital(row.help)],
    ...row.groups.map(([title, ...words]) => [`Scan group ${title}`, words.join("; ")])];
  const list = el("dl");
  facts(list, pairs.filter(([, text]) => text));
  const show = () => { filterTags(row.name); $("tags").scrollIntoView(); $("tag-window").focus(); };
  return el("tr", { role: "row" }, el("td", { class: "details", role: "cell", colspan: width }, list,
    el("button", { type: "button", onclick: show }, "Show its tags")));
}

function open(device) {
  opened = opened === device ? null : device;
  drawRows();
  [...$("rows").querySelectorAll("tbody tr")].find((row) => row.querySelector(".name button")?.textContent === device)?.querySelector("button").focus();
}

// What grows older by itself: ages, and how long nothing came.
function tick() {
  for (const cell of $("rows").querySelectorAll("td.last")) {
    const at = cell.dataset.at === "" ? null : Number(cell.dataset.at);
    const text = at === null ? "never" : age(now() - at);
    if (cell.textContent !== text) cell.replaceChildren(...quantity(text));
    cell.title = moment(at);
  }
  ages();
  if (last !== null) {
    $("utc").textContent = utc(now()).slice(11);
    $("local").textContent = zone()[1] ? `${clock(now())} ${zone()[0]}` : "";
  }
}

function connection() {
  const silent = performance.now() - heard, is_lost = silent > SILENT_MS;
  const since = is_lost ? now() - silent : away?.[0];
  const ahead = last !== null && Math.abs(browserAhead()) > CLOCKS_APART_MS ? browserAhead() : 0;
  const is_new = last !== null && !last.overview.name;
  const notice = last === null ? (performance.now() > SILENT_MS ? "This page gets no answer from tidegate page. Is it running?" : "")
    : is_lost ? `No connection to this page's server: the figures are old since ${moment(since)}, ${age(silent)} ago.`
      : away && is_new ? `${away[1]}. It is asked again each second.`
      : away ? `The figures are old since ${moment(since)}, ${age(now() - since)} ago. ${away[1]}`
        : ahead ? `The clock of this browser is ${age(Math.abs(ahead))} ${ahead > 0 ? "ahead of" : "behind"} the gateway's; times here are the gateway's.` : "";
  const is_old = is_lost && last !== null || Boolean(away);
  document.body.classList.toggle("old", is_old);
  document.body.classList.toggle("never", is_new);
  $("connection").textContent = is_old ? "not live" : last === null ? "connecting" : "live";
  $("notice").textContent = notice;
  $("notice").hidden = !notice;
  if (is_old) {
    $("verdict").dataset.state = "UNKNOWN";
    $("word").textContent = "UNKNOWN";
    say("sentence", is_lost ? "Nothing is heard from the server of this page."
      : is_new ? "Nothing is known of it yet: it has given no status." : "The gateway or relay gives no status.");
  } else if (last?.overview.name) {
    say("word", last.overview.verdict);
    say("sentence", last.overview.sentence);
  }
  document.title = `${$("word").textContent} ${$("name").textContent} – Tidegate`;
}

const plain = (value) => (value >= 100 ? Math.round(value) : Number(value.toPrecision(2))).toLocaleString("en", { maximumSignificantDigits: 12 });

async function history() {
  if (document.hidden) return;
  try {
    const answer = await fetch(`history?of=${encodeURIComponent(of)}&span=${span ?? "hour"}`);
    if (!answer.ok) return;
    const data = await answer.json();
    if (span === null && data.now - Math.min(data.since, ...data.lanes.map((lane) => lane.since)) < 600_000) { choose("minutes"); return; }
    span ??= "hour";
    const from = data.now - data.span, over = { from, span: data.span, format: plain };
    showLanes(data);
    lines($("rates"), [{ name: kind === "gateways" ? "received" : "in", values: data.points.in, mark: "a" },
      { name: kind === "gateways" ? "archived" : "out", values: data.points.out, mark: "b" }],
      { ...over, unit: "records/s", none: "Rates are known after ten seconds." });
    lines($("waiting"), [{ name: "waiting", values: data.points.waiting, mark: "a" }],
      { ...over, unit: "records", none: "How many records wait is known to the process that sends." });
    lines($("bound"), [{ name: kind === "gateways" ? "slowest gateway" : "off by at most", values: data.points.bound, mark: "a" }],
      { ...over, unit: "ms", none: kind === "gateways" ? "No gateway has sent a value yet." : "No bound of the clock's error is known." });
  } catch { /* The stream says that the connection is gone. */ }
}

function choose(wanted) {
  span = wanted;
  for (const each of document.querySelectorAll("[data-span]")) each.setAttribute("aria-pressed", each.dataset.span === wanted);
  history();
}

for (const button of document.querySelectorAll("[data-span]")) {
  button.addEventListener("click", () => choose(button.dataset.span));
}
addEventListener("keydown", (event) => {
  if (event.key === "/" && event.target !== $("filter")) {
    $("filter").focus();
    event.preventDefault();
  } else if (event.key === "Escape" && event.target === $("filter")) {
    $("filter").value = "";
    $("filter").dispatchEvent(new Event("input"));
    filterTags(null);
    $("filter").blur();
  }
});
$("filter").addEventListener("input", debounce(drawRows, 80));
addEventListener("visibilitychange", () => {
  if (document.hidden) stream?.close();
  else { listen(); history(); }
});
addEventListener("beforeprint", () => { $("printed").textContent = `Printed at ${moment(now())}, with the tags in view.`; });
addEventListener("pagehide", () => { stream?.close(); stop(); });
setInterval(() => { tick(); connection(); }, 500);
setInterval(history, 5000);
listen();
