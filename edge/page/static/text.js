// What all parts of the page share: elements, ages, and the gateway's time, which is never the browser's.

export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

export const $ = (id) => document.getElementById(id);

// An age as people say it: the same words as `tidegate status`.
export function age(ms) {
  if (ms === null || ms === undefined) return "never";
  if (ms < 0) ms = 0;
  if (ms < 10_000) return `${(Math.floor(ms / 100) / 10).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.floor(ms / 1000)} s`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min`;
  const [larger, smaller, names] = ms < 86_400_000 ? [3_600_000, 60_000, ["h", "min"]] : [86_400_000, 3_600_000, ["d", "h"]];
  const rest = Math.floor((ms % larger) / smaller);
  return `${Math.floor(ms / larger)} ${names[0]}` + (rest ? ` ${rest} ${names[1]}` : "");
}

// A number with its unit in a lighter grey.
export function quantity(text) {
  const at = text.indexOf(" ");
  return at < 0 ? [text] : [text.slice(0, at), el("span", { class: "unit" }, text.slice(at))];
}

// A long name that gives way in the middle: its end stays.
export function name(text) {
  const tail = text.length > 14 ? 8 : 0;
  if (!tail) return el("span", { class: "name" }, text);
  return el("span", { class: "name", title: text },
    el("span", { class: "head" }, text.slice(0, -tail)), el("span", { class: "tail" }, text.slice(-tail)));
}

const time = { offset: 0, zone: ["UTC", 0] };

// The gateway's clock by the last event: the browser's own may be wrong, and only its running time is used.
export function setClock(now, zone) {
  time.offset = now - performance.now();
  if (zone) time.zone = zone;
}

export const now = () => performance.now() + time.offset;
export const browserAhead = () => Date.now() - now();

const iso = (ms) => new Date(ms).toISOString();
export const utc = (ms) => `${iso(ms).slice(0, 10)} ${iso(ms).slice(11, 19)} UTC`;
export const clock = (ms) => iso(ms + time.zone[1]).slice(11, 19);
export const hours = (ms) => iso(ms + time.zone[1]).slice(11, 16);
export const zone = () => time.zone;

// A moment of today by its time, in the plant's zone; else with its date.
export function stamp(ms) {
  const local = iso(ms + time.zone[1]), today = iso(now() + time.zone[1]);
  return local.slice(0, 10) === today.slice(0, 10) ? local.slice(11, 19) : `${local.slice(0, 10)} ${local.slice(11, 16)}`;
}

// A moment in UTC and in the plant's zone.
export function moment(ms) {
  if (ms === null || ms === undefined) return "never";
  return time.zone[1] ? `${utc(ms)} (${clock(ms)} ${time.zone[0]})` : utc(ms);
}

export const state = (word) => el("span", { class: "state", "data-state": word.toUpperCase() }, word);

export function empty(text, command) {
  return el("p", { class: "empty" }, text, ...(command ? [" ", el("code", {}, command)] : []));
}

export function debounce(work, ms) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => work(...given), ms);
  };
}
