// What happened, and which configurations were taken into use: the newest that the gateway or relay still knows.

import { $, debounce, el, empty, moment, stamp, state } from "./text.js";

const SHOWN = { events: 10, configurations: 4 };
const all = { events: false, configurations: false };
let drawn = null;

export function showRecent(recent, kind) {
  drawn = [recent, kind];
  const is_known = recent.since !== undefined, of_relay = kind === "gateways";
  for (const place of ["events", "configurations"]) $(place).parentElement.hidden = !is_known;
  if (!is_known) return;
  const since = stamp(recent.since), words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = recent.events.filter((one) => words.every((word) => `${one[2]} ${one[3]}`.toLowerCase().includes(word)));
  const events = found.length ? found : recent.events;  // While a name is filtered that only tags have, all stay.
  list("events", events, event, `Nothing happened since ${since}, when ${of_relay ? "the relay" : "the gateway"} started.`,
    `Since ${since}, when ${of_relay ? "the relay" : "the gateway"} started. All before is on record: `, "tidegate log");
  const running = recent.running ? `Configuration ${recent.running} runs. ` : "";
  list("configurations", recent.configurations, change, `${running}None was taken into use since ${since}.`,
    "All of them, verified: ", "tidegate history");
}

function list(place, items, make, none, more, command) {
  const over = items.length - SHOWN[place], shown = all[place] ? items : items.slice(0, SHOWN[place]);
  const toggle = () => { all[place] = !all[place]; showRecent(...drawn); };
  $(place).replaceChildren(
    shown.length ? el("ul", { class: place }, ...shown.map(make)) : empty(none),
    over > 0 ? el("button", { type: "button", class: "quiet", onclick: toggle }, all[place] ? "Show fewer" : `Show ${over} more`) : "",
    el("p", { class: "caption" }, more, el("code", {}, command)));
}

const when = (at) => el("time", { title: moment(at), datetime: new Date(at).toISOString() }, stamp(at));

function event([at, severity, gateway, text]) {
  return el("li", { "data-state": severity }, when(at),
    el("p", {}, severity ? state(severity) : "", severity ? " " : "", gateway ? el("b", {}, `${gateway} `) : "", text));
}

function change(one) {
  const more = one.shown.length && one.more > 0 ? `; and ${one.more.toLocaleString("en")} more` : "";
  return el("li", {}, el("p", {}, when(one.at), one.gateway ? el("b", {}, ` ${one.gateway}`) : "", " ",
    el("code", {}, one.digest), one.changes ? el("span", { class: "unit" }, ` ${one.changes}`) : ""),
  el("p", {}, one.why || "no reason given"), el("small", {}, [one.who, ...one.shown].join("; ") + more));
}

$("filter").addEventListener("input", debounce(() => drawn && showRecent(...drawn), 80));
