/** Submitting: a script, a bundle or a template, with the fields that the chosen host honours. */

import { el } from "./jobgate-jobs.js";

const EXAMPLE = '#!/bin/sh\necho "hello from $(hostname)"\n';
const KINDS = { script: "Script", bundle: "Bundle", template: "Template" };

/** [name, label, how it is read, more]: `able` names what a host's capabilities must have. */
const FIELDS = [
  ["name", "Name", "text", { placeholder: "job" }],
  ["tag", "Tag", "text", { hint: "a word to find your jobs by" }],
  ["queue", "Queue", "queue", { able: "queue" }],
  ["nodes", "Nodes", "integer", { able: "nodes", min: 1 }],
  ["cores", "Cores", "integer", { able: "cores", min: 1, hint: "for the whole job" }],
  ["memory", "Memory per node", "memory", { able: "memory", placeholder: "4GiB" }],
  ["gpus", "GPUs per node", "integer", { able: "gpus", min: 0 }],
  ["wall_time", "Wall time", "time", { able: "wall_time", placeholder: "1:00:00", hint: "seconds, or [D-]HH:MM:SS" }],
  ["array", "Array", "text", { able: "array", placeholder: "1-10", hint: "such as 1-10, 3,7 or 1-100%4; the script finds its number in JOBGATE_TASK_ID" }],
];
const FURTHER = [
  ["account", "Account", "account", {}],
  ["working_directory", "Working directory", "text", { kinds: ["script", "template"], placeholder: "your home" }],
  ["environment", "Environment", "environment", { hint: "NAME=value, one in a line", placeholder: "NAME=value" }],
  ["stdout", "File for the output", "text", { able: "stdout" }],
  ["stderr", "File for the error output", "text", { able: "stderr" }],
  ["priority", "Priority", "integer", { able: "priority", hint: "higher is sooner" }],
  ["description", "Description", "long", {}],
  ["extended_properties", "Extended properties", "json", { hint: "a JSON object", placeholder: '{"paper": 7}' }],
  ["notify", "Notify", "text", { hint: "a URL that gets a POST when the job has ended" }],
  ["hold", "Hold it until I release it", "box", { able: "hold" }],
  ["draft", "Keep it as a draft, to be run later", "box", {}],
];

export function submitView(page) {
  const form = new SubmitForm(page, new URLSearchParams(location.hash.split("?")[1]));
  return { title: "Submit a job", nodes: [form.element] };
}

class SubmitForm {
  constructor(page, query) {
    Object.assign(this, { page, gateway: page.gateway, query });
    this.element = el("form.submit", { novalidate: true, "aria-busy": "true" }, "…");
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.send();
    });
    this.inputs = new Map(); // by the name of the field
    this.begin();
  }

  async begin() {
    try {
      const from = this.query.get("from");
      const [hosts, templates, before] = await Promise.all([
        this.gateway.get("/api/hosts"),
        this.gateway.get("/api/templates"),
        from ? this.gateway.get(`/api/jobs/${encodeURIComponent(from)}/request`) : {},
      ]);
      Object.assign(this, { hosts, templates, before });
      this.build();
    } catch (problem) {
      this.element.replaceChildren(el("p.error", { role: "alert" }, problem.message));
    }
  }

  // -- what it looks like

  build() {
    this.problem = el("p.error", { role: "alert" });
    this.progress = el("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" });
    this.button = el("button.main", { type: "submit" }, "Submit");
    this.kind = el("div.row.kinds", { role: "radiogroup", "aria-label": "What to run" });
    for (const [name, label] of Object.entries(KINDS)) this.kind.append(this.kindButton(name, label));
    this.host = this.input("host", el("select", { onchange: () => this.fit() }));
    this.host.append(...this.hosts.map(({ name, health }) => el("option", { value: name }, health.ok ? name : `${name} (does not answer)`)));
    this.host.value = this.before.host ?? this.hosts.find((host) => host.default)?.name ?? this.hosts[0].name;
    const main = FIELDS.map((field) => this.field(field));
    const further = FURTHER.map((field) => this.field(field));
    const open = Object.keys(this.before).some((name) => FURTHER.some(([known]) => known === name));
    this.element.replaceChildren(
      this.kind,
      labelled("Host", this.host),
      this.scriptPart(),
      this.bundlePart(),
      this.templatePart(),
      el("div.grid", {}, ...main),
      this.dependencyPart(),
      el("details", { open }, el("summary", {}, "More"), el("div.grid", {}, ...further)),
      this.problem,
      el("div.row", {}, this.button, this.progress),
    );
    this.element.removeAttribute("aria-busy");
    if (this.query.get("from")) this.fill();
    if (this.query.get("template")) this.template.value = this.query.get("template");
    this.choose(this.query.get("template") ? "template" : this.query.get("from") && !this.before.script ? "bundle" : "script");
  }

  kindButton(name, label) {
    const radio = el("input", { type: "radio", name: "kind", value: name, onchange: () => this.choose(name) });
    return el("label.kind", {}, radio, label);
  }

  choose(kind) {
    this.chosen = kind;
    this.kind.querySelector(`[value=${kind}]`).checked = true;
    for (const part of this.element.querySelectorAll("[data-kinds]")) {
      part.hidden = !part.dataset.kinds.split(" ").includes(kind);
    }
    if (kind === "template") this.showParameters();
    this.fit();
  }

  /** Only what the host honours can be asked for. */
  fit() {
    const host = this.hosts.find(({ name }) => name === this.host.value);
    for (const part of this.element.querySelectorAll("[data-able]")) {
      const kinds = part.dataset.kinds?.split(" ") ?? Object.keys(KINDS);
      part.hidden = !host.capabilities.fields.includes(part.dataset.able) || !kinds.includes(this.chosen);
    }
    const queues = this.inputs.get("queue");
    const chosen = queues.value;
    const known = host.queues.map(({ name, up }) => el("option", { value: name }, up ? name : `${name} (closed)`));
    queues.replaceChildren(el("option", { value: "" }, "the default"), ...known);
    queues.value = host.queues.some(({ name }) => name === chosen) ? chosen : "";
  }

  input(name, element) {
    this.inputs.set(name, element);
    element.id = `field-${name}`;
    return element;
  }

  field([name, label, kind, { able, kinds, hint, placeholder, min }]) {
    const about = { placeholder, min, autocomplete: "off" };
    const makers = {
      integer: () => el("input", { ...about, type: "number", step: 1 }),
      box: () => el("input", { type: "checkbox" }),
      queue: () => el("select"),
      account: () => choice(this.page.session.accounts),
      environment: () => el("textarea", { ...about, rows: 3 }),
      json: () => el("textarea", { ...about, rows: 2, spellcheck: "false" }),
      long: () => el("textarea", { ...about, rows: 2 }),
    };
    const input = this.input(name, (makers[kind] ?? (() => el("input", { ...about, type: "text" })))());
    input.dataset.read = kind;
    const part = labelled(label, input, hint);
    if (able) part.dataset.able = able;
    if (kinds) part.dataset.kinds = kinds.join(" ");
    return part;
  }

  scriptPart() {
    const script = this.input("script", el("textarea.code", { rows: 12, spellcheck: "false", autocapitalize: "off", wrap: "off" }));
    script.value = this.before.script ?? EXAMPLE;
    const numbers = el("div.numbers", { "aria-hidden": true });
    const count = () => {
      const lines = script.value.split("\n").length;
      numbers.textContent = Array.from({ length: lines }, (_, at) => at + 1).join("\n");
      numbers.scrollTop = script.scrollTop;
    };
    script.addEventListener("input", count);
    script.addEventListener("scroll", count);
    this.recount = count;
    const file = el("input", { type: "file", "aria-label": "Take the script from a file" });
    file.addEventListener("change", async () => {
      script.value = await file.files[0].text();
      count();
    });
    count();
    const part = labelled("Script", el("div.editor", {}, numbers, script));
    part.querySelector("label").htmlFor = script.id;
    part.append(el("div.row.small", {}, el("span.quiet", {}, "or take it from a file:"), file));
    part.dataset.kinds = "script";
    return part;
  }

  bundlePart() {
    this.bundle = this.input("bundle", el("input", { type: "file", accept: ".tar.gz,.tgz,.tar.bz2,.tar,.zip" }));
    this.files = this.input("inputs", el("input", { type: "file", multiple: true }));
    const parameters = this.input("arguments", el("textarea", { rows: 2, spellcheck: "false" }));
    parameters.dataset.read = "lines";
    return group(
      "bundle",
      labelled("Bundle", this.bundle, "an archive, .tar.gz or .zip, with a program run.sh at its root"),
      labelled("Inputs", this.files, "files that it finds in the folder $JOBGATE_INPUT"),
      labelled("Arguments", parameters, "one in a line"),
    );
  }

  templatePart() {
    this.template = this.input("template", el("select", { onchange: () => this.showParameters() }));
    this.template.append(...this.templates.map(({ name }) => el("option", { value: name }, name)));
    this.parameters = el("div");
    const files = this.input("files", el("input", { type: "text", placeholder: "corpus/xml" }));
    const pattern = this.input("pattern", el("input", { type: "text", placeholder: "*.xml" }));
    const over = group("template", labelled("Run over the files below", files, "once for each file; leave it empty to run once"));
    over.append(labelled("of which only", pattern, "such as *.xml"));
    const nothing = this.templates.length ? null : el("p.quiet", {}, "There are no templates yet; POST /api/templates makes one.");
    return group("template", nothing, labelled("Template", this.template), this.parameters, over);
  }

  showParameters() {
    const template = this.templates.find(({ name }) => name === this.template.value);
    this.values = new Map();
    const parts = Object.entries(template?.parameters ?? {}).map(([name, about]) => {
      const input = this.parameter(about);
      this.values.set(name, [input, about.type ?? "string"]);
      input.id = `field-parameters.${name}`;
      return labelled(about.required ? `${name} (required)` : name, input, about.description);
    });
    this.parameters.replaceChildren(el("p.quiet", {}, template?.description ?? ""), ...parts);
    if (template?.host && !this.query.get("from")) {
      this.host.value = template.host;
      this.fit();
    }
  }

  parameter({ type = "string", choices, default: value }) {
    const words = value === undefined || value === null ? "" : String(value);
    if (choices) {
      const input = choice(["", ...choices.map(String)]);
      input.value = words;
      return input;
    }
    if (type === "boolean") {
      const input = choice(["", "true", "false"]);
      input.value = words;
      return input;
    }
    const number = { integer: { type: "number", step: 1 }, number: { type: "number", step: "any" } }[type];
    return el("input", { ...(number ?? { type: "text" }), value: words, autocomplete: "off" });
  }

  dependencyPart() {
    this.needs = el("div");
    const add = el("button", { type: "button", onclick: () => this.addNeed() }, "Wait for another job");
    return el("div.part", { id: "field-dependencies", tabindex: -1 }, this.needs, add);
  }

  async addNeed(job = "", type = "afterok") {
    if (!this.known) {
      const jobs = await this.gateway.get("/api/jobs?limit=200").catch(() => []);
      this.known = el("datalist", { id: "known-jobs" });
      this.known.append(...jobs.map((one) => el("option", { value: one.job_id }, `${one.name} (${one.state})`)));
      this.element.append(this.known);
    }
    const id = el("input", { type: "text", list: "known-jobs", "aria-label": "Job to wait for", placeholder: "job id", value: job });
    const when = choice(["afterok", "afternotok", "afterany", "after"], ["has finished well", "has failed", "has ended", "has begun"]);
    when.setAttribute("aria-label", "When it may start");
    when.value = type;
    const remove = el("button", { type: "button", onclick: () => row.remove() }, "Remove");
    const row = el("div.row.need", {}, el("span", {}, "Start when"), id, when, remove);
    this.needs.append(row);
    if (!job) id.focus();
  }

  /** What another job was asked for. */
  fill() {
    for (const [name, value] of Object.entries(this.before)) {
      const input = this.inputs.get(name);
      if (name === "dependencies") for (const { job_id: job, type } of value) this.addNeed(job, type);
      else if (input?.type === "checkbox") input.checked = value;
      else if (input?.dataset.read) input.value = written(input.dataset.read, value);
    }
    this.fit();
    if (this.before.queue) this.inputs.get("queue").value = this.before.queue;
    this.recount();
  }

  // -- what is sent

  read() {
    const job = { host: this.host.value };
    for (const [name, input] of this.inputs) {
      if (input.dataset.read && !input.closest("[hidden]")) {
        const value = (readers[input.dataset.read] ?? readers.text)(input);
        if (value !== "" && value !== undefined) job[name] = value;
      }
    }
    const needs = [...this.needs.children].map((row) => [row.querySelector("input").value.trim(), row.querySelector("select").value]);
    if (needs.length) job.dependencies = needs.filter(([id]) => id).map(([id, type]) => ({ job_id: id, type }));
    if (this.chosen === "script") job.script = this.inputs.get("script").value.replaceAll("\r\n", "\n");
    if (this.chosen === "template") this.readTemplate(job);
    return job;
  }

  readTemplate(job) {
    job.template = this.template.value;
    const values = [...this.values].map(([name, [input, type]]) => [name, typed(input.value, type)]);
    job.parameters = Object.fromEntries(values.filter(([, value]) => value !== undefined));
    const [path, pattern] = ["files", "pattern"].map((name) => this.inputs.get(name).value.trim());
    if (path) job.files = pattern ? { path, pattern } : path;
  }

  async send() {
    this.clear();
    let job;
    try {
      job = this.read();
    } catch (problem) {
      return this.refuse(problem);
    }
    this.button.disabled = true;
    try {
      const made = this.chosen === "bundle" ? await this.upload(job) : await this.post(job);
      const first = made.jobs?.[0] ?? made;
      this.page.go(`#/jobs/${first.uuid}`);
    } catch (problem) {
      this.refuse(problem);
    } finally {
      this.button.disabled = false;
    }
  }

  async post(job) {
    const headers = { "Idempotency-Key": this.key(JSON.stringify(job)) };
    return (await this.gateway.call("POST", "/api/jobs", { json: job, headers })).json();
  }

  /** The same job sent again, after an answer that got lost, is the same job. */
  key(body) {
    if (this.sent?.body !== body) {
      const random = crypto.getRandomValues(new Uint8Array(16));
      this.sent = { body, key: [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("") };
    }
    return this.sent.key;
  }

  /** fetch says nothing of how far an upload is. */
  upload(job) {
    if (!this.bundle.files.length) throw Object.assign(new Error("Choose a bundle."), { errors: { bundle: ["is missing"] } });
    const body = new FormData();
    body.append("job", JSON.stringify(job));
    body.append("bundle", this.bundle.files[0]);
    for (const file of this.files.files) body.append("inputs", file);
    this.progress.hidden = false;
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      request.open("POST", "/api/jobs");
      request.responseType = "json";
      request.upload.addEventListener("progress", ({ loaded, total }) => (this.progress.value = loaded / total));
      request.addEventListener("load", () => {
        this.progress.hidden = true;
        const answer = request.response ?? {};
        if (request.status < 300) resolve(answer);
        else reject(Object.assign(new Error(answer.error_message ?? `the gateway answered ${request.status}`), { errors: answer.errors }));
      });
      request.addEventListener("error", () => reject(new Error("The upload broke off; send it again.")));
      request.send(body);
    });
  }

  clear() {
    this.problem.textContent = "";
    for (const words of this.element.querySelectorAll(".wrong")) words.remove();
    for (const input of this.element.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
  }

  /** Each mistake stands beside its field; the first one gets the focus. */
  refuse(problem) {
    this.progress.hidden = true;
    const placed = Object.entries(problem.errors ?? {}).map(([name, words]) => {
      const input = document.getElementById(`field-${name}`) ?? document.getElementById(`field-${name.split(".")[0]}`);
      if (!input || input.closest("[hidden]")) return null;
      input.closest("details")?.setAttribute("open", "");
      input.setAttribute("aria-invalid", "true");
      input.closest(".part").append(el("p.error.wrong", {}, words.join(" ")));
      return input;
    });
    const shown = placed.filter(Boolean);
    this.problem.textContent = shown.length && shown.length === placed.length ? "Something is not right yet; see above." : problem.message;
    shown[0]?.focus();
  }
}

function labelled(label, input, hint) {
  const inner = input.type === "checkbox" ? [el("label.check", {}, input, label)] : [el("label", { for: input.id || null }, label), input];
  const words = hint ? el("p.small.quiet", { id: `${input.id}-hint` }, hint) : null;
  if (hint) input.setAttribute("aria-describedby", words.id);
  return el("div.part", {}, ...inner, words);
}

function group(kind, ...children) {
  const part = el("div.group", {}, ...children);
  part.dataset.kinds = kind;
  return part;
}

function choice(values, labels = values) {
  const select = el("select");
  select.append(...values.map((value, at) => el("option", { value }, labels[at])));
  return select;
}

const DIGITS = /^\d+$/;

const number = (input) => {
  const words = input.value.trim();
  return DIGITS.test(words) ? Number(words) : words;
};

const readers = {
  text: (input) => input.value.trim(),
  integer: (input) => (input.value === "" ? undefined : Number(input.value)),
  box: (input) => input.checked || undefined,
  memory: number,
  time: number,
  lines: (input) => (input.value === "" ? undefined : input.value.replace(/\n$/, "").split("\n")),
  account: (input) => input.value,
  queue: (input) => input.value,
  environment(input) {
    const lines = input.value.split("\n").filter((line) => line.trim());
    if (!lines.length) return undefined;
    const wrong = lines.find((line) => !line.includes("="));
    if (wrong) throw mistake("environment", `write NAME=value, one in a line; not: ${wrong}`);
    return Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2)));
  },
  json(input) {
    if (!input.value.trim()) return undefined;
    try {
      return JSON.parse(input.value);
    } catch (problem) {
      throw mistake("extended_properties", `this is not JSON: ${problem.message}`);
    }
  },
};

function written(kind, value) {
  if (kind === "environment") return Object.entries(value).map((pair) => pair.join("=")).join("\n");
  if (kind === "json") return JSON.stringify(value);
  if (kind === "lines") return value.join("\n");
  if (kind === "memory" && typeof value === "number") return `${value}MiB`;
  return value;
}

function typed(words, type) {
  if (words === "") return undefined;
  if (type === "boolean") return words === "true";
  if (type === "integer" || type === "number") return Number(words);
  return words;
}

function mistake(name, words) {
  return Object.assign(new Error(words), { errors: { [name]: [words] } });
}
