// The time line: a lane for each device or gateway and each part; a block is a stretch in which not all was well.

import { $, age, el, hours, moment, name, now } from "./text.js";

const SHOWN = 24;
const WORDS = { down: "DOWN", gap: "NOT READ", degraded: "DEGRADED", unknown: "UNKNOWN", away: "NOT SEEN" };
let is_all = false, drawn = null;

export function showLanes(history) {
  drawn = history;
  const place = $("lanes");
  if (place.contains(document.activeElement) && document.activeElement.classList.contains("block")) return;
  if (!history.lanes.length) {
    place.replaceChildren(el("p", { class: "empty" }, "Nothing was seen yet: the time line begins with the first status."));
    return;
  }
  const from = history.now - history.span;
  const parts = history.lanes.filter((lane) => lane.kind === "part");
  const others = history.lanes.filter((lane) => lane.kind !== "part");
  const shown = is_all || others.length <= SHOWN ? others
    : [...others].sort((a, b) => trouble(b) - trouble(a)).slice(0, SHOWN);
  const rows = [...shown, ...parts].map((lane) => row(lane, history, from));
  const more = others.length > SHOWN
    ? [el("button", { type: "button", class: "quiet", onclick: () => { is_all = !is_all; showLanes(drawn); } },
      is_all ? "Show fewer" : `Show ${others.length - shown.length} more`)] : [];
  place.replaceChildren(el("ul", { class: "lanes" }, ...rows), axis(from, history), ...more);
  say(history, from);
}

const trouble = (lane) => lane.blocks.reduce((sum, [start, end, kind]) =>
  sum + (kind === "down" || kind === "gap" ? 1e9 : 1) * ((end ?? now()) - start + 1), 0);

function row(lane, history, from) {
  const track = el("div", { class: "track" });
  const place = (element, start, end) => {
    const left = Math.max(0, ((start - from) / history.span) * 100);
    const right = Math.min(100, ((end - from) / history.span) * 100);
    element.style.left = `min(${left}%, calc(100% - 3px))`;
    element.style.width = `${Math.max(0, right - left)}%`;
    return element;
  };
  if (lane.since > from) track.append(place(el("span", { class: "unseen" }), from, lane.since));
  for (const [start, end, kind, text] of lane.blocks) {
    const lasted = (end ?? history.now) - start;
    const said = `${lane.name}: ${WORDS[kind]}, ${text}; ${moment(start)}` +
      (end === null ? `, for ${age(lasted)} so far` : lasted > 0 ? `, lasted ${age(lasted)}` : "");
    const tell = () => { $("block").textContent = said; $("block").classList.add("told"); };
    track.append(place(el("button", { type: "button", class: "block", "data-kind": kind, "aria-label": said,
      onfocus: tell, onpointerenter: tell, onblur: silence, onpointerleave: silence }), start, end ?? history.now));
  }
  const well = !lane.blocks.length;
  return el("li", { class: well ? "well" : "" }, el("span", { class: "lane-name" }, name(lane.name)), track);
}

function silence() {
  if (drawn) say(drawn, drawn.now - drawn.span);
}

function say(history, from) {
  const blocks = history.lanes.flatMap((lane) => lane.blocks);
  const text = blocks.length ? "A block says what happened when it is pointed at or focused." : "Nothing happened in the time that is known.";
  const first = Math.min(...history.lanes.map((lane) => lane.since));
  const known = history.since <= from ? "" : ` This page watches since ${hours(history.since)}` +
    (first < history.since - 60_000 ? `; gaps of devices are known since ${hours(Math.max(first, from))}.` : ".");
  $("block").classList.remove("told");
  $("block").textContent = text + known;
}

function axis(from, history) {
  const step = (history.span > 4e6 ? 4 * 3_600_000 : history.span > 1e6 ? 600_000 : 120_000) * (innerWidth < 720 ? 2 : 1);
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= history.now; at += step) {
    const share = (at - from) / history.span;
    if (share < 0.03 || share > 0.97) continue;
    const tick = el("span", {}, hours(at));
    tick.style.left = `${share * 100}%`;
    ticks.push(tick);
  }
  return el("div", { class: "ticks", "aria-hidden": "true" }, ...ticks);
}
