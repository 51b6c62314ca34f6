/** Where jobs can be sent: health, load, queues, and how busy each place was. */

import { bar, history, nodes } from "./charts.js";
import { duration, el, timeElement } from "./jobgate-jobs.js";

const REFRESH = 30_000;
const SPANS = [
  [1, "1 hour"],
  [24, "1 day"],
  [168, "1 week"],
];

export function hostsView({ gateway }) {
  const stopped = new AbortController();
  const place = el("div.cards", { "aria-busy": "true" }, "…");
  const problem = el("p.error", { role: "alert" });
  const spans = new Map();

  async function load() {
    if (document.hidden) return;
    try {
      const hosts = await gateway.get("/api/hosts", { signal: stopped.signal });
      const cards = await Promise.all(hosts.map((host) => card(gateway, host, spans, stopped.signal)));
      if (!place.contains(document.activeElement)) place.replaceChildren(...cards);
      place.removeAttribute("aria-busy");
      problem.textContent = "";
    } catch (error) {
      if (!stopped.signal.aborted) problem.textContent = error.message;
    }
  }

  const timer = setInterval(load, REFRESH);
  load();
  return { title: "Hosts", nodes: [problem, place], end: () => (clearInterval(timer), stopped.abort()) };
}

async function card(gateway, host, spans, signal) {
  const chart = el("div");
  const chosen = el("select", { "aria-label": `How far back for ${host.name}` });
  chosen.append(...SPANS.map(([hours, label]) => el("option", { value: hours }, label)));
  chosen.value = spans.get(host.name) ?? "1";
  let now;

  async function draw() {
    spans.set(host.name, chosen.value);
    const path = `/api/hosts/${encodeURIComponent(host.name)}/history?hours=${chosen.value}`;
    const samples = await gateway.get(path, { signal });
    now = samples.at(-1);
    chart.replaceChildren(history(samples, Number(chosen.value)));
  }

  chosen.addEventListener("change", () => draw().catch((problem) => chart.replaceChildren(problem.message)));
  await draw();
  const ran = [
    ["RUNNING", now.running, "running"],
    ["QUEUED", now.queued, "queued"],
  ];
  return el(
    "section.card",
    { "aria-labelledby": `host-${host.name}` },
    el("h2", { id: `host-${host.name}` }, host.name, host.default ? el("span.small.quiet", {}, " default") : null),
    el("p.quiet", {}, [host.backend, host.version].filter(Boolean).join(", ")),
    health(host.health),
    el("h3", {}, "Nodes", host.as_of ? el("span.small.quiet", {}, " as of ", timeElement(host.as_of)) : null),
    Object.keys(host.nodes).length ? nodes(host.nodes) : el("p.quiet", {}, "It has not said yet."),
    el("h3", {}, "Jobs through this gateway"),
    bar("Jobs", ran),
    host.queues.length ? queues(host.queues) : null,
    el("div.row.spread", {}, el("h3", {}, "Over time"), chosen),
    chart,
  );
}

function health({ ok, last_success: success, last_error: error, next_try: next }) {
  if (ok) {
    const asked = success ? ["It answered at ", timeElement(success), "."] : ["It has not been asked yet."];
    return el("p", {}, el("span.state.FINISHED", {}, "well"), " ", el("span.small.quiet", {}, ...asked));
  }
  return el(
    "p",
    {},
    el("span.state.ERROR", {}, "does not answer"),
    " ",
    el("span.error", {}, error ?? ""),
    el("span.small.quiet", {}, " Asked again at ", timeElement(next), "."),
  );
}

function queues(list) {
  const most = Math.max(...list.map((queue) => queue.wall_time ?? 0));
  const head = ["Queue", "State", "Longest job", "Nodes", "Cores"].map((name) => el("th", { scope: "col" }, name));
  const rows = list.map((queue) =>
    el(
      "tr",
      {},
      el("th", { scope: "row" }, queue.name, queue.default ? el("span.small.quiet", {}, " default") : null),
      el("td", {}, queue.up ? el("span.state.FINISHED", {}, "open") : el("span.state.ERROR", {}, "closed")),
      el("td", {}, longest(queue.wall_time, most)),
      el("td", {}, String(queue.nodes ?? "any")),
      el("td", {}, String(queue.cores ?? "any")),
    ),
  );
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
  return el("div", {}, el("h3", {}, "Queues"), el("div.scroll", {}, table));
}

function longest(seconds, most) {
  if (seconds === null) return "any";
  const meter = el("div.bar.thin", { "aria-hidden": true });
  const [piece, rest] = [el("span.RUNNING"), el("span")];
  piece.style.flexGrow = seconds;
  rest.style.flexGrow = most - seconds;
  meter.append(piece, rest);
  return el("div", {}, duration(seconds), meter);
}
