/** Pictures of numbers: bars and a chart over time. Each says the same in words. */

import { duration, el, moment, timeElement } from "./jobgate-jobs.js";

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** A bar whose pieces are [class, number, label]; what is nothing is left out. */
export function bar(label, pieces) {
  const shown = pieces.filter(([, number]) => number > 0);
  const words = shown.map(([, number, name]) => `${number} ${name}`).join(", ") || "none";
  const picture = el("div.bar", { role: "img", "aria-label": `${label}: ${words}` });
  for (const [kind, number, name] of shown) {
    const piece = el(`span.${kind}`, { title: `${number} ${name}` });
    piece.style.flexGrow = number;
    picture.append(piece);
  }
  const legend = el("div.legend.small", { "aria-hidden": true });
  legend.append(...shown.map(([kind, number, name]) => el(`span.state.${kind}`, {}, `${number} ${name}`)));
  return el("div", {}, picture, shown.length ? legend : el("span.small.quiet", {}, "none"));
}

/** What happened to a job: how long it was in which state, as a row of pieces and as a list. */
export function timeline(events, job) {
  const moves = events.filter((event) => event.kind === "job");
  const last = moves.at(-1);
  const end = last && ["FINISHED", "ABORTED", "ERROR"].includes(last.status) ? moment(last.at) : new Date();
  const picture = el("div.timeline", { "aria-hidden": true });
  const list = el("ol.events");
  moves.forEach((event, at) => {
    const begun = moment(event.at);
    const seconds = (moment(moves[at + 1]?.at) ?? end) / 1000 - begun / 1000;
    const words = event.state.replaceAll("_", " ");
    const final = event === last && end.getTime() === begun.getTime();
    const piece = el(`span.${event.status}`, { title: `${words}: ${lasting(seconds)}` }, el("span", {}, words));
    piece.style.flexGrow = final ? 0 : Math.max(seconds, 0.001);
    picture.append(piece);
    const lasted = final ? "" : `for ${lasting(seconds)}`;
    list.append(el("li", {}, timeElement(event.at), " ", el(`span.state.${event.status}`, {}, words), ` ${lasted} `, quiet(event.reason)));
  });
  for (const event of events.filter((one) => one.kind !== "job")) {
    list.append(el("li", {}, timeElement(event.at), " notification: ", event.reason ?? ""));
  }
  return el("div", {}, picture, list);
}

const lasting = (seconds) => (seconds < 60 ? `${seconds.toFixed(seconds < 10 ? 1 : 0)} s` : duration(seconds));

const quiet = (words) => (words ? el("span.quiet", {}, words) : "");

const SERIES = [
  ["RUNNING", "running"],
  ["QUEUED", "queued"],
];
const ENDED = [
  ["FINISHED", "finished"],
  ["ABORTED", "aborted"],
  ["ERROR", "failed"],
];
const WIDTH = 600;
const HEIGHT = 120;

/** Running and queued jobs as areas, and below them what ended, over time. `samples` as /api/hosts/{host}/history. */
export function history(samples, hours) {
  const to = moment(samples.at(-1).at).getTime();
  const from = to - hours * 3_600_000;
  const x = (sample) => Math.max(0, ((moment(sample.at) - from) / (to - from)) * WIDTH);
  const standing = stacked(samples, x);
  const ended = columns(samples, x);
  const sum = (name) => samples.reduce((total, sample) => total + sample[name], 0);
  const legend = el("div.legend.small");
  for (const [kind, name] of SERIES) legend.append(el(`span.state.${kind}`, {}, `${samples.at(-1)[name]} ${name} now`));
  for (const [kind, name] of ENDED) legend.append(el(`span.state.${kind}`, {}, `${sum(name)} ${name}`));
  return el(
    "figure.chart",
    {},
    picture("Running and queued", standing.top, standing.paths, HEIGHT),
    picture("Ended", ended.top, ended.paths, HEIGHT / 2),
    el("div.ends.small.quiet", {}, timeElement(new Date(from).toISOString()), el("span", {}, "now")),
    el("figcaption", {}, legend),
    table(samples),
  );
}

function picture(label, top, paths, height) {
  const shape = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" }, ...paths);
  return el("div.plot", {}, el("span.label.small.quiet", {}, `${label}, at most ${top}`), shape);
}

/** Areas on top of each other. */
function stacked(samples, x) {
  const top = Math.max(1, ...samples.map((sample) => sample.running + sample.queued));
  const y = (count) => HEIGHT - (count / top) * HEIGHT;
  const below = samples.map(() => 0);
  const paths = SERIES.map(([kind, name]) => {
    const floor = [...below];
    samples.forEach((sample, at) => (below[at] += sample[name]));
    return svg("path", { class: kind, d: area(samples.map(x), below.map(y), floor.map(y)) });
  });
  return { top, paths };
}

/** How things stood holds until the next sample. */
function area(xs, upper, lower) {
  const over = xs.map((at, index) => `${index ? `H${at}V` : `M${at} `}${upper[index]}`).join("");
  const under = xs.map((at, index) => `V${lower[index]}H${at}`).reverse();
  return `${over}${under.join("")}Z`;
}

/** Columns that stand on each other, as wide as the time that they tell of. */
function columns(samples, x) {
  const height = HEIGHT / 2;
  const top = Math.max(1, ...samples.map((sample) => ENDED.reduce((sum, [, name]) => sum + sample[name], 0)));
  const paths = [];
  samples.forEach((sample, at) => {
    const right = x(sample);
    const left = Math.min(at ? x(samples[at - 1]) : right, right - 2);
    let base = height;
    for (const [kind, name] of ENDED) {
      const tall = (sample[name] / top) * height;
      base -= tall;
      if (tall) paths.push(svg("rect", { class: kind, x: left, y: base, width: right - left, height: tall }));
    }
  });
  return { top, paths };
}

function table(samples) {
  const names = ["queued", "running", "finished", "aborted", "failed"];
  const head = el("tr", {}, ...["time", ...names].map((name) => el("th", { scope: "col" }, name)));
  const shown = samples.filter((sample, at) => at % Math.ceil(samples.length / 48) === 0 || at === samples.length - 1);
  const rows = shown.map((sample) => el("tr", {}, el("td", {}, timeElement(sample.at)), ...names.map((name) => el("td", {}, String(sample[name])))));
  const inner = el("div.scroll", {}, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
  return el("details", {}, el("summary.small", {}, "In numbers"), inner);
}

const NODE_KINDS = [
  [/down|drain|fail|error|unknown|reserved|maint|off/i, "ERROR"],
  [/idle|free|unclaimed|available/i, "FINISHED"],
  [/full|alloc|claimed|busy|mix|run/i, "RUNNING"],
];

/** A host's nodes by their states, in the scheduler's words. */
export function nodes(counts) {
  const kind = (state) => NODE_KINDS.find(([pattern]) => pattern.test(state))?.[1] ?? "ABORTED";
  return bar("Nodes", Object.entries(counts).map(([state, count]) => [kind(state), count, state]));
}

