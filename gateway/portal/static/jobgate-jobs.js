/**
 * <jobgate-jobs>: a live table of batch jobs, and <jobgate-log>: a log that follows. For any page; see docs/portal.md.
 *
 *     <script type="module" src="https://jobs.example.org/static/jobgate-jobs.js"></script>
 *     <jobgate-jobs token-url="/jobgate-token"></jobgate-jobs>
 *
 * Everything that a job brings along is put into the page as text, never as markup.
 */

const HOME = new URL("..", import.meta.url).href.replace(/\/$/, "");
const FINAL = new Set(["FINISHED", "ABORTED", "ERROR"]);
const STEERABLE = new Set(["queued", "held", "running", "suspended", "completing", "unknown"]);
const STREAM_SILENCE = 40_000; // ms; the gateway sends a comment every 15 s
const FIRST_WORD = 6_000; // ms; a proxy on the way that holds a stream back is noticed by then
const GATHER = 250; // ms in which changes are gathered into one request

// ---------------------------------------------------------------------------------------------------------- elements

/** An element: el("a.button", {href, onclick, "aria-label"}, "text", otherElement). */
export function el(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export function sheet(css) {
  const made = new CSSStyleSheet();
  made.replaceSync(css);
  return made;
}

/** A template such as "/results/{job_id}" with a job's values in it; null where it would leave http(s). */
export function address(template, job) {
  const filled = template.replace(/\{([\w.]+)\}/g, (_, path) => encodeURIComponent(text(valueAt(job, path))));
  const protocol = new URL(filled, document.baseURI).protocol;
  return protocol === "https:" || protocol === "http:" ? filled : null;
}

/** What stands at a dotted path. */
export function valueAt(object, path) {
  return path.split(".").reduce((value, name) => (Object(value) === value ? value[name] : undefined), object);
}

function text(value) {
  if (value === undefined || value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

// -------------------------------------------------------------------------------------------------------------- time

/** Of RFC 3339, or of the gateway's "2015-01-07 15:00:11", which is UTC. */
export function moment(words) {
  return words ? new Date(words.includes("T") ? words : `${words.replace(" ", "T")}Z`) : null;
}

export function timeElement(words) {
  const at = moment(words);
  if (!at) return "";
  const today = at.toDateString() === new Date().toDateString();
  const near = today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "short" };
  const shown = new Intl.DateTimeFormat(undefined, near).format(at);
  return el("time", { datetime: at.toISOString(), title: at.toISOString() }, shown);
}

export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const [days, hours, minutes] = [Math.floor(whole / 86400), Math.floor(whole / 3600) % 24, Math.floor(whole / 60) % 60];
  const clock = [hours, minutes, whole % 60].map((part) => String(part).padStart(2, "0")).join(":");
  return days ? `${days} d ${clock}` : clock;
}

export function runTime(job) {
  const start = moment(job.start_time);
  if (!start) return "";
  const end = moment(job.end_time) ?? (FINAL.has(job.status) ? moment(job.updated_at) : new Date());
  return duration((end - start) / 1000);
}

const pause = (milliseconds, signal) =>
  new Promise((resolve) => {
    if (signal?.aborted) return resolve();
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

// ------------------------------------------------------------------------------------------------------- the gateway

/** A refusal, in the gateway's own words. */
export class GatewayError extends Error {
  constructor(status, body) {
    super(body.error_message || `the gateway answered ${status}`);
    Object.assign(this, { status, code: body.code, errors: body.errors ?? {}, body });
  }
}

/**
 * The gateway's API. With `token`, or with `tokenUrl`, which answers {"token": ...} and is asked again when a token has
 * ended; without either, the cookie of the gateway's own page.
 */
export class Gateway extends EventTarget {
  constructor(base = HOME, { token, tokenUrl } = {}) {
    super();
    Object.assign(this, { base, token, tokenUrl });
  }

  get withCookie() {
    return !this.token && !this.tokenUrl;
  }

  /** The answer. Throws GatewayError for a refusal, TypeError where the gateway cannot be reached. */
  async call(method, path, { json, headers = {}, signal, accept = [] } = {}) {
    const options = { method, signal, headers: { ...headers }, cache: "no-store", credentials: "same-origin" };
    if (json !== undefined) {
      options.body = JSON.stringify(json);
      options.headers["Content-Type"] = "application/json";
    }
    let response = await this.#send(path, options);
    if (response.status === 401 && this.tokenUrl) {
      if (options.headers.Authorization === `Bearer ${this.token}`) this.token = undefined;
      response = await this.#send(path, options);
    }
    if (response.ok || accept.includes(response.status)) return response;
    const error = new GatewayError(response.status, await response.json().catch(() => ({})));
    if (response.status === 401) this.dispatchEvent(new CustomEvent("signed-out", { detail: error }));
    throw error;
  }

  async get(path, more) {
    return (await this.call("GET", path, more)).json();
  }

  async #send(path, options) {
    if (!this.withCookie) {
      this.token ??= await this.#newToken();
      options.credentials = "omit";
      options.headers.Authorization = `Bearer ${this.token}`;
    }
    return fetch(this.base + path, options);
  }

  #newToken() {
    this.asking ??= fetch(this.tokenUrl, { method: "POST", credentials: "same-origin", cache: "no-store" })
      .then(async (response) => {
        if (response.ok) return (await response.json()).token;
        throw new GatewayError(response.status, { error_message: `no token could be had from ${this.tokenUrl}` });
      })
      .finally(() => (this.asking = undefined));
    return this.asking;
  }

  /** Server-sent events as {data}, and comments as {comment}. Ends with the stream, throws where there is none. */
  async *events(path, signal) {
    const ending = new AbortController();
    const end = () => ending.abort();
    signal.addEventListener("abort", end, { once: true });
    let timer = setTimeout(end, FIRST_WORD);
    try {
      const response = await this.call("GET", path, { signal: ending.signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(end, STREAM_SILENCE);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) yield message(block);
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      end();
    }
  }

  /** Have the browser save what is at a path. */
  async download(path, name) {
    if (this.withCookie) return save(this.base + path, name);
    const url = URL.createObjectURL(await (await this.call("GET", path)).blob());
    save(url, name);
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  }
}

function message(block) {
  const data = block.split("\n").find((line) => line.startsWith("data: "));
  return data ? { data: JSON.parse(data.slice(6)) } : { comment: block.slice(2) };
}

function save(href, name) {
  const link = el("a", { href, download: name });
  link.click();
}

/**
 * Keeps up with what happens to jobs while the page is looked at: from the stream of events, and by asking every
 * `seconds` where there is none.
 *
 * `changed(event)` is called for each event, `look()` when anything may have happened, `mode("live" | "polling")`.
 */
export class Live {
  constructor(gateway, { owner, seconds = 5, changed = () => {}, look, mode = () => {} }) {
    Object.assign(this, { gateway, seconds, changed, look, mode });
    this.path = `/api/events${owner ? `?owner=${encodeURIComponent(owner)}` : ""}`;
    this.seen = () => (document.hidden ? this.#pause() : this.#run());
  }

  start() {
    document.addEventListener("visibilitychange", this.seen);
    this.seen();
  }

  stop() {
    document.removeEventListener("visibilitychange", this.seen);
    this.#pause();
  }

  #pause() {
    this.running?.abort(); // a browser has few connections to a server, and all its tabs share them
    this.running = undefined;
  }

  async #run() {
    if (this.running) return;
    const { signal } = (this.running = new AbortController());
    for (let failures = 0; !signal.aborted; ) {
      failures = (await this.#listen(signal)) ? 0 : failures + 1;
      if (failures) await this.#ask(Math.min(2 ** failures, 12), signal);
    }
  }

  /** Until the stream ends, as it does every ten minutes. Whether it was worth while. */
  async #listen(signal) {
    const begun = Date.now();
    try {
      for await (const { data, comment } of this.gateway.events(this.path, signal)) {
        if (data) this.changed(data);
        else this.#still(comment);
      }
    } catch (problem) {
      if (problem.status === 401) this.#pause();
    }
    return Date.now() - begun > FIRST_WORD;
  }

  /** Once it listens, and every minute: nobody tells of jobs that are deleted. */
  #still(comment) {
    this.mode("live");
    if (comment !== "listening" && Date.now() - this.lookedAt < 60_000) return;
    this.lookedAt = Date.now();
    this.look();
  }

  /** So many times; then the stream is tried again. */
  async #ask(times, signal) {
    for (let time = 0; time < times && !signal.aborted; time++) {
      this.mode("polling");
      this.look();
      await pause(this.seconds * 1000, signal);
    }
  }
}

// ----------------------------------------------------------------------------------------------------------- dialogs

const CONTROL_SHEET = sheet(`
  :host {
    --text: var(--jobgate-text, light-dark(#1c2430, #e3e8ef));
    --quiet: var(--jobgate-quiet, light-dark(#5a6675, #9aa7b8));
    --ground: var(--jobgate-ground, light-dark(#ffffff, #171c24));
    --raised: var(--jobgate-raised, light-dark(#f4f6f9, #202733));
    --line: var(--jobgate-line, light-dark(#d5dbe3, #364152));
    --accent: var(--jobgate-accent, light-dark(#1459b8, #79b0ff));
    --danger: var(--jobgate-danger, light-dark(#b3261e, #ff9a92));
    color-scheme: var(--jobgate-scheme, light dark);
    color: var(--text);
    font: var(--jobgate-font, 0.9375rem / 1.45 system-ui, sans-serif);
    display: block;
  }
  :host([hidden]), [hidden] { display: none !important; }
  button, .button, select, input {
    font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: 0.375rem;
    padding: 0.25rem 0.6rem; min-height: 2rem; box-sizing: border-box;
  }
  button, .button { cursor: pointer; text-decoration: none; display: inline-block; white-space: nowrap; }
  button:hover, .button:hover { background: var(--raised); }
  button:disabled { opacity: 0.55; cursor: default; }
  button.danger { color: var(--danger); }
  button.main { background: var(--accent); border-color: var(--accent); color: var(--ground); }
  :focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
  .quiet { color: var(--quiet); }
  .error { color: var(--danger); overflow-wrap: anywhere; }
  .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
`);
export const DIALOG_SHEET = sheet(`
  dialog {
    color: var(--text); background: var(--ground); border: 1px solid var(--line); border-radius: 0.75rem;
    padding: 1.25rem; max-width: min(32rem, calc(100vw - 2rem)); box-sizing: border-box;
  }
  dialog.wide { width: min(70rem, calc(100vw - 1.5rem)); max-width: none; max-height: calc(100dvh - 1.5rem); }
  dialog::backdrop { background: rgb(0 0 0 / 0.45); }
  dialog h2 { margin: 0 0 0.5rem; font-size: 1.125rem; overflow-wrap: anywhere; }
  dialog p { margin: 0 0 1rem; overflow-wrap: anywhere; }
  .row { display: flex; flex-wrap: wrap; gap: 0.5rem; align-items: center; }
  .end { justify-content: flex-end; }
  dialog > .end { margin-top: 0.75rem; }
`);

/** Ask before something is lost. Escape and the button that has the focus say no. */
export function confirmed(root, question, words, verb) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-labelledby": "question", "aria-describedby": "words" });
    const end = (answer) => () => (dialog.close(), resolve(answer));
    dialog.append(
      el("h2", { id: "question" }, question),
      el("p", { id: "words" }, words),
      el(
        "div.row.end",
        {},
        el("button", { type: "button", autofocus: true, onclick: end(false) }, "Keep it"),
        el("button.danger", { type: "button", onclick: end(true) }, verb),
      ),
    );
    dialog.addEventListener("close", () => (dialog.remove(), resolve(false)));
    root.append(dialog);
    dialog.showModal();
  });
}

// --------------------------------------------------------------------------------------------------------------- log

const LOG_SHEET = sheet(`
  pre {
    margin: 0.5rem 0 0; padding: 0.75rem; overflow: auto; background: var(--raised); border: 1px solid var(--line);
    border-radius: 0.5rem; font: 0.8125rem / 1.5 ui-monospace, monospace; white-space: pre-wrap;
    overflow-wrap: anywhere; min-height: 7rem; max-height: var(--jobgate-log-height, 50vh); box-sizing: border-box;
  }
  label { display: inline-flex; gap: 0.35rem; align-items: center; }
  input[type="number"] { width: 6rem; }
  input[type="checkbox"] { min-height: auto; }
`);
const TAIL_LINES = 1000;
const TAIL_BYTES = 128 * 1024;
const MOST_SHOWN = 2_000_000; // characters; a browser gets slow with more
const LOOK_AGAIN = 2000; // ms between two looks at a log that cannot be followed

/** A job's output, following it while the job runs. Set `gateway`, then `job`. */
export class JobgateLog extends HTMLElement {
  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [CONTROL_SHEET, DIALOG_SHEET, LOG_SHEET];
    this.stream = el("select", { "aria-label": "Which output", onchange: () => this.#open() });
    this.stream.append(el("option", { value: "stdout" }, "Output"), el("option", { value: "stderr" }, "Error output"));
    this.task = el("input", { type: "number", min: 1, "aria-label": "Task", onchange: () => this.#open() });
    this.follow = el("input", { type: "checkbox", checked: true });
    this.note = el("span.quiet", { role: "status" });
    this.text = el("pre", { tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Log" });
    this.text.addEventListener("scroll", () => this.#scrolled());
    this.taskLabel = el("label", { hidden: true }, "Task ", this.task);
    const save = el("button", { type: "button", onclick: () => this.#save() }, "Download");
    const follow = el("label", {}, this.follow, "Stay at the end");
    root.append(el("div.row", {}, this.stream, this.taskLabel, follow, save, this.note), this.text);
  }

  set job(job) {
    const another = this.current?.uuid !== job.uuid;
    this.current = job;
    if (!another) return;
    this.taskLabel.hidden = !job.array;
    if (job.array) this.task.value = parseInt(job.array, 10);
    if (this.isConnected) this.#open();
  }

  connectedCallback() {
    if (this.current) this.#open();
  }

  disconnectedCallback() {
    this.reading?.abort();
  }

  get #path() {
    const task = this.current.array ? `/tasks/${encodeURIComponent(this.task.value)}` : "";
    return `/api/jobs/${this.current.uuid}${task}/${this.stream.value}`;
  }

  #save() {
    const name = `${this.current.job_id}${this.current.array ? `.${this.task.value}` : ""}.${this.stream.value}.txt`;
    this.gateway.download(this.#path, name).catch((problem) => this.#say(problem.message));
  }

  #say(words) {
    this.note.textContent = words;
  }

  async #open() {
    this.reading?.abort();
    const { signal } = (this.reading = new AbortController());
    this.text.textContent = "";
    this.#say(FINAL.has(this.current.status) ? "" : "Waiting for output …");
    try {
      if (!(await this.#followed(signal))) await this.#looked(signal);
      if (!signal.aborted) this.#say(this.text.textContent ? "The end." : "There is no output.");
    } catch (problem) {
      if (!signal.aborted) this.#say(problem.code === "no_output_yet" ? "There is no output." : problem.message);
    }
  }

  /** Until the job ends. False where too many follow already. */
  async #followed(signal) {
    const path = `${this.#path}?follow=1&tail=${TAIL_LINES}`;
    const response = await this.gateway.call("GET", path, { signal, accept: [429] });
    if (response.status === 429) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || signal.aborted) return true;
      this.#append(value);
    }
  }

  /** The same by asking for what is new, again and again. */
  async #looked(signal) {
    const decoder = new TextDecoder();
    for (let range = `bytes=-${TAIL_BYTES}`; !signal.aborted; ) {
      const running = !(await this.#ended(signal));
      const response = await this.gateway.call("GET", this.#path, {
        signal,
        headers: { Range: range },
        accept: running ? [404, 416] : [416],
      });
      if (response.status === 206) {
        range = `bytes=${Number(response.headers.get("Content-Range").match(/-(\d+)/)[1]) + 1}-`;
        this.#append(decoder.decode(await response.arrayBuffer(), { stream: true }));
      } else if (!running) return;
      await pause(LOOK_AGAIN, signal);
    }
  }

  async #ended(signal) {
    const task = this.current.array ? `/tasks/${encodeURIComponent(this.task.value)}` : "";
    const { status } = await this.gateway.get(`/api/jobs/${this.current.uuid}${task}`, { signal });
    return FINAL.has(status);
  }

  #append(words) {
    this.#say("");
    this.text.append(words);
    let shown = this.text.textContent.length;
    while (shown > MOST_SHOWN && this.text.childNodes.length > 1) {
      shown -= this.text.firstChild.length;
      this.text.firstChild.remove();
      this.#say("Only the end is shown; download it to see all.");
    }
    if (this.follow.checked) this.text.scrollTop = this.text.scrollHeight;
  }

  /** Who scrolls back wants to read; who scrolls to the end wants to stay there. */
  #scrolled() {
    this.follow.checked = this.text.scrollTop + this.text.clientHeight >= this.text.scrollHeight - 8;
  }
}
customElements.define("jobgate-log", JobgateLog);

// ----------------------------------------------------------------------------------------------------------- actions

const started = (job) => Boolean(job.start_time) || job.status === "RUNNING" || job.status === "FINISHED";
const handedOver = (job) => job.job_id !== job.uuid;

/** What can be done with a job: when it makes sense (`can` says what the host is able to do), and what is lost by it. */
export const ACTIONS = {
  run: { label: "Run", order: "execute", when: (job) => job.state === "draft" },
  hold: { label: "Hold", order: "hold", when: (job, can) => job.state === "queued" && can("hold") },
  release: {
    label: "Release",
    order: "release",
    when: (job, can) => job.state === "held" && handedOver(job) && can("release"),
  },
  suspend: { label: "Suspend", order: "suspend", when: (job, can) => job.state === "running" && can("suspend") },
  continue: { label: "Continue", order: "continue", when: (job, can) => job.state === "suspended" && can("continue") },
  abort: {
    label: "Abort",
    order: "abort",
    danger: true,
    loses: (job) => (job.status === "RUNNING" ? "It ends at once, and what it has not written yet is lost." : "It will never run."),
    when: (job, can) => STEERABLE.has(job.state) && can("abort"),
  },
  resubmit: { label: "Resubmit", order: "resubmit", when: (job) => FINAL.has(job.status) },
  logs: { label: "Logs", when: started },
  results: { label: "Results", when: (job) => FINAL.has(job.status) && started(job) },
  delete: {
    label: "Delete",
    danger: true,
    loses: () => "The gateway forgets it and its history. What a bundle brought and made is removed from the host.",
    when: (job) => FINAL.has(job.status) || job.state === "draft",
  },
};

/** Do it, after a question where something is lost. What was done, in words; null where the answer was no. */
export async function perform(gateway, root, name, job) {
  const { label, order, loses } = ACTIONS[name];
  if (loses && !(await confirmed(root, `${label} ${job.name} (${job.job_id})?`, loses(job), label))) return null;
  const path = `/api/jobs/${job.uuid}`;
  if (name === "delete") {
    await gateway.call("DELETE", path);
    return { words: `${job.job_id} is deleted.` };
  }
  const answer = await gateway.call("PUT", path, { json: { action: order } });
  const made = answer.status === 201 ? await answer.json() : undefined;
  return { words: made ? `${made.job_id} is submitted.` : `${job.job_id}: ${label} is done.`, made };
}

/** What each host is able to do to jobs, asked for once: (job) => (action) => boolean. */
export async function abilities(gateway) {
  const hosts = await gateway.get("/api/hosts");
  const able = new Map(hosts.map((host) => [host.name, new Set(host.capabilities.actions)]));
  return (job) => (action) => able.get(job.host)?.has(action) ?? false;
}

export function showLog(root, gateway, job) {
  const log = el("jobgate-log");
  log.gateway = gateway;
  log.job = job;
  const dialog = el("dialog.wide", { "aria-labelledby": "log-of" });
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  dialog.append(el("h2", { id: "log-of" }, `Log of ${job.name} (${job.job_id})`), log, el("div.row.end", {}, close));
  dialog.addEventListener("close", () => dialog.remove());
  root.append(dialog);
  dialog.showModal();
}

// ------------------------------------------------------------------------------------------------------- their state

export const STATE_SHEET = sheet(`
  .state { display: inline-flex; align-items: center; gap: 0.4rem; white-space: nowrap; }
  .state::before { content: ""; width: 0.625rem; height: 0.625rem; border-radius: 50%; background: var(--state-colour); }
  .QUEUED { --state-colour: var(--jobgate-queued, light-dark(#8a6d00, #e0b83c)); }
  .RUNNING { --state-colour: var(--jobgate-running, light-dark(#1459b8, #79b0ff)); }
  .FINISHED { --state-colour: var(--jobgate-finished, light-dark(#1a7f37, #5bc273)); }
  .ABORTED { --state-colour: var(--jobgate-aborted, light-dark(#69727d, #98a2ae)); }
  .ERROR { --state-colour: var(--jobgate-error, light-dark(#b3261e, #ff8a80)); }
  .RUNNING.state::before { animation: breathe 1.6s ease-in-out infinite alternate; }
  @keyframes breathe { to { opacity: 0.35; } }
  @media (prefers-reduced-motion: reduce) { .RUNNING.state::before { animation: none; } }
  .bar {
    display: flex; height: 0.5rem; min-width: 6rem; margin-top: 0.3rem; overflow: hidden; border-radius: 0.25rem;
    background: var(--line);
  }
  .bar > span { background: var(--state-colour); }
  .small { font-size: 0.8125rem; color: var(--quiet); }
`);

const STATUS_OF = {
  finished: "FINISHED",
  cancelled: "ABORTED",
  running: "RUNNING",
  suspended: "RUNNING",
  completing: "RUNNING",
  unknown: "RUNNING",
  draft: "QUEUED",
  submitting: "QUEUED",
  queued: "QUEUED",
  held: "QUEUED",
};
export const statusOf = (state) => STATUS_OF[state] ?? "ERROR";

export function stateElement(job) {
  const why = [job.native_state && `${job.native_state}`, job.reason].filter(Boolean).join(": ");
  const shown = el(`span.state.${job.status}`, { title: why || null }, job.state.replaceAll("_", " "));
  return job.tasks ? el("div", {}, shown, progress(job.tasks)) : shown;
}

/** How far an array is: a bar with a piece for each status, and in words. */
export function progress({ total, ...states }) {
  const counts = { FINISHED: 0, ERROR: 0, ABORTED: 0, RUNNING: 0, QUEUED: 0 };
  for (const [state, count] of Object.entries(states)) counts[statusOf(state)] += count;
  const done = counts.FINISHED + counts.ERROR + counts.ABORTED;
  const words = `${done} of ${total} done${counts.ERROR ? `, ${counts.ERROR} failed` : ""}`;
  const about = { role: "progressbar", "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": done };
  const bar = el("div.bar", { ...about, "aria-label": "Tasks", "aria-valuetext": words });
  for (const [status, count] of Object.entries(counts)) {
    const piece = el(`span.${status}`);
    piece.style.flexGrow = count;
    if (count && status !== "QUEUED") bar.append(piece);
  }
  const rest = el("span");
  rest.style.flexGrow = counts.QUEUED;
  rest.style.background = "transparent";
  bar.append(rest);
  return el("div", {}, bar, el("span.small", {}, words));
}

// ------------------------------------------------------------------------------------------------------------- table

const ALIASES = {
  id: "number",
  user: "owner",
  creation_time: "created_at",
  execute_time: "start_time",
  completion_time: "end_time",
};
const LABELS = {
  number: "Id",
  job_id: "Job",
  state: "Status",
  created_at: "Created",
  updated_at: "Changed",
  submitted_at: "Submitted",
  start_time: "Started",
  end_time: "Ended",
};
const SORTED_BY = { job_id: "number", status: "state" };
const SORTABLE = new Set(["number", "created_at", "updated_at", "name", "host", "state", "tag", "queue"]);
const TIMES = new Set(["created_at", "updated_at", "submitted_at", "start_time", "end_time", "as_of"]);
const DEFAULT_COLUMNS = "job_id name host status created_at run_time";
const DEFAULT_ACTIONS = "run hold release abort resubmit logs results delete";

/** "name", or "name:Label" in the words of the page. */
function column(words) {
  const [name, label] = words.split(/:(.*)/);
  const field = ALIASES[name] ?? name;
  const last = field.split(".").pop().replaceAll("_", " ");
  const sort = SORTED_BY[field] ?? field;
  return {
    field,
    label: label?.replaceAll("_", " ") ?? LABELS[field] ?? last[0].toUpperCase() + last.slice(1),
    sort: SORTABLE.has(sort) ? sort : null,
  };
}

const TABLE_SHEET = sheet(`
  .tools { margin-bottom: 0.75rem; }
  .tools input[type="search"] { width: 16rem; max-width: 100%; }
  .tools .live { margin-inline-start: auto; }
  .scroll { overflow-x: auto; }
  table { border-collapse: collapse; width: 100%; }
  th, td { text-align: start; padding: 0.55rem 0.6rem; vertical-align: top; border-bottom: 1px solid var(--line); }
  td { overflow-wrap: anywhere; }
  th { font-weight: 600; white-space: nowrap; border-bottom-width: 2px; }
  th button { border: 0; padding: 0; min-height: 0; background: none; font-weight: inherit; }
  th button:hover { text-decoration: underline; background: none; }
  td.number, td.run_time { font-variant-numeric: tabular-nums; white-space: nowrap; }
  td time { white-space: nowrap; }
  td a { color: var(--accent); }
  td .row { gap: 0.35rem; }
  td button, td .button { font-size: 0.8125rem; padding: 0.1rem 0.5rem; min-height: 1.75rem; }
  :host([condensed]) :is(th, td) { padding: 0.2rem 0.4rem; }
  :host([striped]) tbody tr:nth-child(odd) { background: var(--raised); }
  :host([hover]) tbody tr:hover { background: color-mix(in srgb, var(--accent) 10%, transparent); }
  :host([bordered]) :is(th, td) { border: 1px solid var(--line); }
  .foot { margin-top: 0.75rem; }
  .foot .count { margin-inline-end: auto; }
  .nothing { padding: 2rem 1rem; text-align: center; color: var(--quiet); }
  .live::before { content: ""; display: inline-block; width: 0.5rem; height: 0.5rem; margin-inline-end: 0.4rem;
    border-radius: 50%; background: var(--quiet); }
  .live.on::before { background: var(--jobgate-finished, light-dark(#1a7f37, #5bc273)); }
  @container (max-width: 42rem) {
    table, tbody, tr, td { display: block; }
    thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
    tbody tr { border: 1px solid var(--line); border-radius: 0.625rem; padding: 0.35rem 0.75rem; margin-bottom: 0.75rem; }
    :host([bordered]) td, td { border: 0; padding: 0.25rem 0; display: grid; grid-template-columns: 6.5rem 1fr; }
    td::before { content: attr(data-label); color: var(--quiet); font-size: 0.8125rem; }
    td[data-empty] { display: none; }
    td.actions { display: block; padding-top: 0.4rem; }
    td.actions::before { content: none; }
    td button, td .button { min-height: 2.25rem; padding: 0.25rem 0.7rem; }
    .tools input[type="search"] { flex: 1 1 100%; }
  }
  .box { container-type: inline-size; }
`);

/**
 * The table. Attributes: gateway, token, token-url, columns, sort, page-size, refresh, actions, custom-actions,
 * job-url, results-url, tag, host, status, q, owner, filters, hover, striped, bordered, condensed. Property: `client`, a
 * Gateway.
 * Events: jobgate-action, jobgate-made, jobgate-signed-out.
 */
export class JobgateJobs extends HTMLElement {
  static observedAttributes = [
    ...["gateway", "token", "token-url", "columns", "sort", "page-size", "refresh", "actions", "custom-actions"],
    ...["job-url", "results-url", "tag", "host", "status", "q", "owner", "filters"],
  ];

  constructor() {
    super();
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [CONTROL_SHEET, DIALOG_SHEET, STATE_SHEET, TABLE_SHEET];
    this.rows = new Map(); // by uuid: {job, row}
    this.dirty = new Set(); // uuids of shown jobs that have changed
  }

  connectedCallback() {
    this.#build();
  }

  disconnectedCallback() {
    this.#end();
  }

  attributeChangedCallback() {
    if (!this.table || this.rebuilding) return;
    this.rebuilding = true;
    queueMicrotask(() => {
      this.rebuilding = false;
      if (this.isConnected) this.#build();
    });
  }

  #end() {
    this.live?.stop();
    this.loading?.abort();
    clearInterval(this.clock);
    clearTimeout(this.gathering);
    clearTimeout(this.reloading);
  }

  // -- what it looks like

  #build() {
    this.#end();
    this.api = this.client ?? this.#ownClient();
    this.columns = this.#list("columns", DEFAULT_COLUMNS).map(column);
    this.actions = this.#list("actions", DEFAULT_ACTIONS).filter((name) => name in ACTIONS);
    this.custom = this.#custom();
    this.sort = this.getAttribute("sort") || "-number";
    this.size = Math.min(1000, Math.max(1, Number(this.getAttribute("page-size")) || 25));
    this.filter = Object.fromEntries(["q", "status"].map((name) => [name, this.getAttribute(name) ?? ""]));
    this.cursors = [""];
    this.rows.clear();
    this.message = el("div", { role: "status" });
    this.problem = el("div.error", { role: "alert" });
    this.mode = el("span.live.quiet");
    this.body = el("tbody", { role: "rowgroup" });
    this.head = el("tr", { role: "row" });
    this.caption = el("caption.unseen", {}, "Jobs");
    const head = el("thead", { role: "rowgroup" }, this.head);
    this.table = el("table", { role: "table", "aria-busy": "true" }, this.caption, head, this.body);
    this.nothing = el("div.nothing", { hidden: true }, "There are no jobs here.");
    this.shadowRoot.replaceChildren(
      el("div.box", {}, this.#tools(), this.problem, el("div.scroll", {}, this.table), this.nothing, this.#foot()),
    );
    this.#drawHead();
    this.#start();
  }

  #list(name, otherwise) {
    return (this.getAttribute(name) || otherwise).split(/[\s,]+/).filter(Boolean);
  }

  #ownClient() {
    const [base, token, tokenUrl] = ["gateway", "token", "token-url"].map((name) => this.getAttribute(name) ?? undefined);
    const client = new Gateway(base?.replace(/\/$/, ""), { token, tokenUrl });
    client.addEventListener("signed-out", () => this.#tell("jobgate-signed-out", {}));
    return client;
  }

  /** [{"name", "label", "url", "status": [...]}]: links, or events for the page. */
  #custom() {
    try {
      return JSON.parse(this.getAttribute("custom-actions") || "[]");
    } catch (problem) {
      console.error("jobgate-jobs: custom-actions is not JSON", problem);
      return [];
    }
  }

  #tools() {
    const tools = el("div.row.tools");
    if (this.hasAttribute("filters")) {
      let typing;
      const search = el("input", { type: "search", placeholder: "Name, tag or description", "aria-label": "Search" });
      search.value = this.filter.q;
      search.addEventListener("input", () => {
        clearTimeout(typing);
        typing = setTimeout(() => this.#narrow("q", search.value.trim()), 300);
      });
      const status = el("select", { "aria-label": "Status", onchange: () => this.#narrow("status", status.value) });
      const words = { "": "Any status", QUEUED: "Queued", RUNNING: "Running", FINISHED: "Finished", ABORTED: "Aborted", ERROR: "Error" };
      status.append(...Object.entries(words).map(([value, label]) => el("option", { value }, label)));
      status.value = this.filter.status;
      tools.append(search, status);
    }
    tools.append(this.message, this.mode);
    return tools;
  }

  #narrow(name, value) {
    this.filter[name] = value;
    this.cursors = [""];
    this.reload();
  }

  #foot() {
    this.count = el("span.count.quiet");
    const turn = (change) => () => (change(), this.reload());
    this.first = el("button", { type: "button", onclick: turn(() => (this.cursors = [""])) }, "First");
    this.previous = el("button", { type: "button", onclick: turn(() => this.cursors.pop()) }, "Previous");
    this.next = el("button", { type: "button", onclick: turn(() => this.cursors.push(this.upcoming)) }, "Next");
    return el("nav.row.foot", { "aria-label": "Pages" }, this.count, this.first, this.previous, this.next);
  }

  #drawHead() {
    const sorted = this.sort.replace(/^-/, "");
    const descending = this.sort.startsWith("-");
    const cells = this.columns.map(({ label, sort }) => {
      if (!sort) return el("th", { scope: "col", role: "columnheader" }, label);
      const direction = sort !== sorted ? "none" : descending ? "descending" : "ascending";
      const arrow = { none: "", ascending: " ▲", descending: " ▼" }[direction];
      const button = el("button", { type: "button", onclick: () => this.#sortBy(sort) }, label, arrow);
      return el("th", { scope: "col", role: "columnheader", "aria-sort": direction }, button);
    });
    if (this.#offered) cells.push(el("th", { scope: "col", role: "columnheader" }, "Actions"));
    this.head.replaceChildren(...cells);
  }

  get #offered() {
    return this.actions.length + this.custom.length > 0;
  }

  #sortBy(field) {
    const at = [...this.head.children].indexOf(this.shadowRoot.activeElement?.parentElement);
    this.sort = this.sort === field ? `-${field}` : field;
    this.cursors = [""];
    this.#drawHead();
    this.head.children[at]?.querySelector("button")?.focus();
    this.reload();
  }

  // -- what it shows

  async #start() {
    const refresh = this.getAttribute("refresh");
    const seconds = refresh === null ? 5 : Number(refresh) || 0;
    this.clock = setInterval(() => this.#tickTimes(), 1000);
    this.can ??= await abilities(this.api).catch(() => undefined);
    if (!this.isConnected) return;
    if (!seconds) return this.reload();
    this.live = new Live(this.api, {
      owner: this.getAttribute("owner"),
      seconds,
      changed: (event) => this.#changed(event),
      look: () => this.reload(),
      mode: (mode) => this.#showMode(mode, seconds),
    });
    this.live.start();
    this.reload();
  }

  #showMode(mode, seconds) {
    this.mode.className = mode === "live" ? "live on quiet" : "live quiet";
    this.mode.textContent = mode === "live" ? "Live" : `Every ${seconds} s`;
  }

  #query(more = {}) {
    const query = new URLSearchParams();
    for (const name of ["tag", "host", "owner"]) {
      if (this.getAttribute(name)) query.set(name, this.getAttribute(name));
    }
    if (this.filter.q) query.set("q", this.filter.q);
    for (const status of this.filter.status.split(/[\s,]+/).filter(Boolean)) query.append("status", status);
    for (const [name, value] of Object.entries(more)) if (value) query.set(name, value);
    return query;
  }

  /** Ask for the page of jobs that is shown. */
  async reload() {
    this.loading?.abort();
    const { signal } = (this.loading = new AbortController());
    const cursor = this.cursors.at(-1);
    const query = this.#query({ limit: this.size, sort: this.sort, cursor });
    try {
      const response = await this.api.call("GET", `/api/jobs?${query}`, { signal });
      const jobs = await response.json();
      if (signal.aborted) return;
      this.total = Number(response.headers.get("X-Total-Count"));
      this.upcoming = new URLSearchParams(response.headers.get("Link")?.match(/\?([^>]*)>/)?.[1]).get("cursor");
      if (!jobs.length && this.cursors.length > 1) return this.#narrow("q", this.filter.q);
      this.#show(jobs);
      this.problem.textContent = "";
    } catch (problem) {
      if (signal.aborted) return;
      this.problem.textContent = problem.status ? problem.message : "The gateway cannot be reached; trying again.";
    }
    this.table.setAttribute("aria-busy", "false");
  }

  #show(jobs) {
    const shown = new Set(jobs.map((job) => job.uuid));
    for (const uuid of [...this.rows.keys()]) if (!shown.has(uuid)) this.#drop(uuid);
    jobs.forEach((job, at) => {
      const { row } = this.#put(job);
      if (this.body.children[at] !== row) this.body.insertBefore(row, this.body.children[at] ?? null);
    });
    this.#showCount(jobs.length);
  }

  #showCount(shown) {
    const before = (this.cursors.length - 1) * this.size;
    const number = new Intl.NumberFormat();
    const words = shown ? `${number.format(before + 1)} to ${number.format(before + shown)} of ${number.format(this.total)}` : "";
    this.count.textContent = words;
    this.caption.textContent = `Jobs ${words}`;
    this.nothing.hidden = shown > 0;
    this.table.hidden = shown === 0;
    this.first.disabled = this.previous.disabled = this.cursors.length === 1;
    this.next.disabled = !this.upcoming;
  }

  #drop(uuid) {
    const { row } = this.rows.get(uuid);
    const focused = row.contains(this.shadowRoot.activeElement);
    const neighbour = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    this.rows.delete(uuid);
    if (focused) neighbour?.querySelector("a, button")?.focus();
  }

  /** A job's row, made or brought up to date; what has not changed stays, and with it the focus. */
  #put(job) {
    const known = this.rows.get(job.uuid);
    if (known && JSON.stringify(known.job) === JSON.stringify(job)) return known;
    const entry = known ?? { row: el("tr", { role: "row" }), cells: [] };
    if (known && known.job.state !== job.state) this.#announce(job);
    entry.job = job;
    this.columns.forEach(({ field, label }, at) => {
      const cell = (entry.cells[at] ??= entry.row.appendChild(el("td", { role: "cell", "data-label": label })));
      const key = JSON.stringify([field === "run_time" ? runTime(job) : valueAt(job, field), job.state, job.tasks, job.reason]);
      if (cell.shows === key) return;
      cell.shows = key;
      cell.className = field.replaceAll(".", "_");
      cell.replaceChildren(this.#content(job, field));
      cell.toggleAttribute("data-empty", !cell.textContent);
    });
    if (this.#offered) this.#putActions(entry);
    this.rows.set(job.uuid, entry);
    return entry;
  }

  #content(job, field) {
    if (field === "status" || field === "state") return stateElement(job);
    if (field === "run_time") return runTime(job);
    if (TIMES.has(field)) return timeElement(job[field]);
    const words = text(valueAt(job, field));
    const template = field === "job_id" && this.getAttribute("job-url");
    const href = template && address(template, job);
    const shown = field === "job_id" && !handedOver(job) ? `${words.slice(0, 8)}…` : words;
    return href ? el("a", { href, title: words }, shown) : el("span", { title: shown === words ? null : words }, shown);
  }

  #putActions(entry) {
    const { job } = entry;
    const cell = (entry.cells.actions ??= entry.row.appendChild(el("td.actions", { role: "cell", "data-label": "Actions" })));
    const can = this.can?.(job) ?? (() => true);
    const wanted = this.actions.filter((name) => ACTIONS[name].when(job, can));
    const own = this.custom.filter(({ status }) => !status || status.includes(job.status));
    const key = JSON.stringify([wanted, own.map((one) => one.url && address(one.url, job))]);
    if (cell.shows === key) return;
    cell.shows = key;
    const focused = cell.contains(this.shadowRoot.activeElement);
    cell.replaceChildren(
      el("div.row", {}, ...wanted.map((name) => this.#button(entry, name)), ...own.map((one) => this.#customButton(entry, one))),
    );
    if (focused) (cell.querySelector("button, a") ?? this.head.querySelector("button"))?.focus();
  }

  #button(entry, name) {
    const { label, danger } = ACTIONS[name];
    const about = { "aria-label": `${label} ${entry.job.name} ${entry.job.job_id}` };
    const template = name === "results" && this.getAttribute("results-url");
    const href = template && address(template, entry.job);
    if (href) return el("a.button", { ...about, href }, label);
    const onclick = ({ currentTarget }) => this.#perform(entry, name, currentTarget);
    return el(danger ? "button.danger" : "button", { type: "button", ...about, onclick }, label);
  }

  #customButton(entry, { name, label, url }) {
    const about = { "aria-label": `${label} ${entry.job.name} ${entry.job.job_id}` };
    const href = url && address(url, entry.job);
    if (href) return el("a.button", { ...about, href }, label);
    const onclick = () => this.#tell("jobgate-action", { action: name ?? label, job: entry.job });
    return el("button", { type: "button", ...about, onclick }, label);
  }

  async #perform({ job }, name, button) {
    if (!this.#tell("jobgate-action", { action: name, job })) return;
    if (name === "logs") return showLog(this.shadowRoot, this.api, job);
    button.disabled = true;
    try {
      if (name === "results") return await this.api.download(`/api/jobs/${job.uuid}/output`, `${job.job_id}.tar.gz`);
      const done = await perform(this.api, this.shadowRoot, name, job);
      if (!done) return;
      this.#say(done.words);
      if (done.made) this.#tell("jobgate-made", { job: done.made });
      await this.reload();
    } catch (problem) {
      this.problem.textContent = problem.message;
    } finally {
      button.disabled = false;
      if (button.isConnected && !this.shadowRoot.activeElement) button.focus();
    }
  }

  /** False where the page has taken it upon itself. */
  #tell(name, detail) {
    return this.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable: true }));
  }

  // -- what changes

  #changed({ uuid, before }) {
    if (this.rows.has(uuid)) this.dirty.add(uuid);
    const comesOrGoes = before === null || this.filter.status;
    if (!comesOrGoes && !this.rows.has(uuid)) return;
    if (comesOrGoes) this.reloading ??= setTimeout(() => ((this.reloading = undefined), this.reload()), 4 * GATHER);
    this.gathering ??= setTimeout(() => ((this.gathering = undefined), this.#refresh()), GATHER);
  }

  /** Ask for the shown jobs that have changed, all at once. */
  async #refresh() {
    const uuids = [...this.dirty];
    this.dirty.clear();
    if (!uuids.length) return;
    const query = new URLSearchParams(uuids.map((uuid) => ["job_id", uuid]));
    if (this.getAttribute("owner")) query.set("owner", this.getAttribute("owner"));
    const jobs = await this.api.get(`/api/jobs?${query}`).catch(() => []);
    for (const job of jobs) if (this.rows.has(job.uuid)) this.#put(job);
  }

  #announce(job) {
    this.announced = [...(this.announced ?? []), job];
    this.announcing ??= setTimeout(() => {
      const jobs = this.announced;
      this.announced = this.announcing = undefined;
      this.#say(jobs.length === 1 ? `${jobs[0].name} (${jobs[0].job_id}) is ${jobs[0].state.replaceAll("_", " ")}.` : `${jobs.length} jobs have changed.`);
    }, 2 * GATHER);
  }

  #say(words) {
    this.message.textContent = words;
  }

  #tickTimes() {
    const at = this.columns.findIndex(({ field }) => field === "run_time");
    if (at < 0) return;
    for (const { job, cells } of this.rows.values()) {
      if (job.status === "RUNNING") cells[at].textContent = runTime(job);
    }
  }
}
customElements.define("jobgate-jobs", JobgateJobs);
