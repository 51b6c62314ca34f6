/** A job's own page. */

import { timeline } from "./charts.js";
import { ACTIONS, abilities, confirmed, duration, el, Live, perform, progress, runTime, stateElement, timeElement } from "./jobgate-jobs.js";

const MOST_FILES = 500; // shown
const FINAL = ["FINISHED", "ABORTED", "ERROR"];

export function jobView(page, id) {
  const view = new JobPage(page, id);
  return { title: "Job", nodes: view.nodes, end: () => view.end() };
}

class JobPage {
  constructor(page, id) {
    Object.assign(this, { page, gateway: page.gateway, path: `/api/jobs/${encodeURIComponent(id)}` });
    this.stopped = new AbortController();
    this.problem = el("p.error", { role: "alert" });
    this.done = el("p", { role: "status" });
    this.state = el("div.standing");
    this.actions = el("div.row");
    this.story = el("div");
    this.facts = el("div.facts");
    this.tasks = el("div");
    this.log = el("jobgate-log");
    this.log.gateway = this.gateway;
    this.logPlace = el("section", { "aria-label": "Log", hidden: true }, el("h2", {}, "Log"), this.log);
    this.script = el("pre.script", { tabindex: 0, "aria-label": "Script" });
    this.files = el("div");
    this.nodes = [
      this.problem,
      el("div.card.row.spread", {}, this.state, this.actions),
      this.done,
      section("Timeline", this.story),
      this.tasks,
      this.logPlace,
      section("Details", this.facts),
      section("Script", this.script),
      this.files,
    ];
    this.begin();
  }

  async begin() {
    try {
      this.can = await abilities(this.gateway);
      await this.load();
      this.script.textContent = await (await this.gateway.call("GET", `${this.path}/script`)).text();
      this.asked = await this.gateway.get(`${this.path}/request`);
      this.showFacts();
      this.live = new Live(this.gateway, {
        owner: this.page.session.admin ? "*" : undefined,
        changed: ({ uuid }) => uuid === this.job.uuid && this.load(),
        look: () => this.load(),
      });
      if (!this.stopped.signal.aborted) this.live.start();
    } catch (problem) {
      this.fail(problem);
    }
  }

  end() {
    this.stopped.abort();
    this.live?.stop();
    clearTimeout(this.again);
  }

  fail(problem) {
    if (!this.stopped.signal.aborted) this.problem.textContent = problem.message;
    if (problem.status === 404) for (const node of this.nodes.slice(1)) node.hidden = true;
  }

  /** What may have changed. */
  async load() {
    const { signal } = this.stopped;
    try {
      const [job, events] = await Promise.all([
        this.gateway.get(this.path, { signal }),
        this.gateway.get(`${this.path}/events`, { signal }),
      ]);
      if (signal.aborted) return;
      const moved = this.job?.state !== job.state;
      this.job = job;
      this.show(events, moved);
      if (job.array) await this.showTasks();
      if (moved) await this.showFiles();
    } catch (problem) {
      this.fail(problem);
    }
  }

  show(events, moved) {
    const { job } = this;
    const heading = document.querySelector("h1");
    heading.textContent = job.name;
    document.title = `${job.name} – Jobgate`;
    this.state.replaceChildren(
      stateElement({ ...job, tasks: null }),
      el("span.quiet", {}, job.job_id),
      el("span.quiet", {}, runTime(job)),
      job.reason ? el("span", {}, job.reason) : "",
    );
    clearTimeout(this.again);
    if (job.status === "RUNNING") this.again = setTimeout(() => this.showClock(), 1000);
    if (moved) this.showActions();
    this.story.replaceChildren(timeline(events, job));
    this.showFacts();
    if (job.start_time || job.status === "RUNNING") {
      this.log.job = job;
      this.logPlace.hidden = false;
    }
  }

  showClock() {
    this.state.children[2].textContent = runTime(this.job);
    this.again = setTimeout(() => this.showClock(), 1000);
  }

  showActions() {
    const { job } = this;
    const able = this.can(job);
    const names = Object.keys(ACTIONS).filter((name) => name !== "logs" && name !== "results" && ACTIONS[name].when(job, able));
    const buttons = names.map((name) => {
      const { label, danger } = ACTIONS[name];
      return el(danger ? "button.danger" : "button", { type: "button", onclick: () => this.perform(name) }, label);
    });
    const changed = `#/submit?from=${encodeURIComponent(job.uuid)}`;
    if (FINAL.includes(job.status)) buttons.push(el("a.button", { href: changed }, "Resubmit with changes"));
    if (job.start_time) {
      const save = () => this.gateway.download(`${this.path}/output`, `${job.job_id}.tar.gz`);
      buttons.push(el("button", { type: "button", onclick: save }, "Download output"));
    }
    const focused = this.actions.contains(document.activeElement);
    this.actions.replaceChildren(...buttons);
    if (focused) (this.actions.querySelector("button, a") ?? document.querySelector("h1")).focus();
  }

  async perform(name) {
    this.problem.textContent = "";
    try {
      const done = await perform(this.gateway, document.body, name, this.job);
      if (!done) return;
      if (name === "delete") return this.page.go("#/");
      if (done.made && done.made.uuid !== this.job.uuid) return this.page.go(`#/jobs/${done.made.uuid}`);
      this.done.textContent = done.words;
      await this.load();
    } catch (problem) {
      this.problem.textContent = problem.message;
    }
  }

  showFacts() {
    const { job, asked = {} } = this;
    const jobs = (ids) => ids.flatMap((id, at) => [at ? ", " : "", jobLink(id)]);
    this.facts.replaceChildren(
      list("Job", {
        Id: job.job_id,
        Host: job.host,
        Queue: job.queue,
        Account: job.account,
        Owner: this.page.session.subject === job.owner ? null : job.owner,
        Tag: job.tag,
        Description: job.description,
        Template: job.template,
        "Resubmitted from": job.resubmitted_from && jobs([job.resubmitted_from]),
        "Waits for": job.dependencies.length ? jobs(job.dependencies.map((one) => one.job_id)) : null,
        Array: job.array,
        "Exit code": job.exit_code,
        Signal: job.signal,
        "Scheduler says": job.native_state,
        "As of": job.stale ? ["not mentioned by the scheduler since ", timeElement(job.as_of)] : null,
        Warnings: job.warnings.join(" "),
        "Extended properties": Object.keys(job.extended_properties).length ? JSON.stringify(job.extended_properties) : null,
      }),
      list("Resources", {
        Nodes: pair(job.nodes, asked.nodes),
        Cores: pair(job.cores, asked.cores),
        "Memory per node": asked.memory && `${asked.memory} MiB asked for`,
        "GPUs per node": asked.gpus && `${asked.gpus} asked for`,
        "Wall time": pair(job.wall_time, asked.wall_time && duration(asked.wall_time)),
        Waited: job.queue_time,
        Created: timeElement(job.created_at),
        Started: timeElement(job.start_time),
        Ended: timeElement(job.end_time),
        "Working directory": job.working_directory,
        Environment: asked.environment && Object.entries(asked.environment).map((one) => one.join("=")).join("\n"),
      }),
    );
  }

  async showTasks() {
    const { job, path } = this;
    const list = await this.gateway.get(`${path}/tasks`, { signal: this.stopped.signal });
    const rows = list.map((task) =>
      el(
        "tr",
        {},
        el("th", { scope: "row" }, String(task.task_id)),
        el("td", {}, stateElement(task)),
        el("td", {}, String(task.exit_code ?? "")),
        el("td", {}, timeElement(task.start_time)),
        el("td", {}, timeElement(task.end_time)),
        el("td", {}, this.taskButton(task)),
      ),
    );
    const head = ["Task", "Status", "Exit code", "Started", "Ended", "Actions"].map((name) => el("th", { scope: "col" }, name));
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
    const failed = FINAL.includes(job.status) && list.some((task) => task.status === "ERROR");
    const again = () => this.order(path, { action: "resubmit", tasks: "failed" });
    const more = job.tasks.total > list.length ? el("p.quiet", {}, `The first ${list.length} of ${job.tasks.total} are shown.`) : null;
    const open = this.tasks.querySelector("details")?.open ?? list.length <= 20;
    if (this.tasks.contains(document.activeElement)) return;
    this.tasks.replaceChildren(
      section(
        "Tasks",
        progress(job.tasks),
        failed ? el("p", {}, el("button", { type: "button", onclick: again }, "Resubmit those that failed")) : null,
        el("details", { open }, el("summary", {}, "Each task"), el("div.scroll", {}, table), more),
      ),
    );
  }

  taskButton(task) {
    const path = `${this.path}/tasks/${task.task_id}`;
    if (FINAL.includes(task.status)) return button("Resubmit", `task ${task.task_id}`, () => this.order(path, { action: "resubmit" }));
    return button("Abort", `task ${task.task_id}`, async () => {
      const question = `Abort task ${task.task_id}?`;
      if (await confirmed(document.body, question, ACTIONS.abort.loses(task), "Abort")) this.order(path, { action: "abort" });
    });
  }

  async order(path, json) {
    this.problem.textContent = "";
    document.activeElement?.blur();
    try {
      const answer = await this.gateway.call("PUT", path, { json });
      if (answer.status === 201) this.page.go(`#/jobs/${(await answer.json()).uuid}`);
      else await this.load();
    } catch (problem) {
      this.problem.textContent = problem.message;
    }
  }

  async showFiles() {
    const { job, path } = this;
    if (!job.start_time) return;
    const list = await this.gateway.get(`${path}/files/`, { signal: this.stopped.signal }).catch(() => null);
    if (!list?.length) return;
    const rows = list.slice(0, MOST_FILES).map((file) =>
      el(
        "tr",
        {},
        el("td", {}, el("a", { href: this.fileUrl(file), download: file.path.split("/").pop() }, file.path)),
        el("td", {}, size(file.size)),
        el("td", {}, timeElement(file.mtime)),
      ),
    );
    const head = ["File", "Size", "Changed"].map((name) => el("th", { scope: "col" }, name));
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
    const more = list.length > MOST_FILES ? el("p.quiet", {}, `The first ${MOST_FILES} of ${list.length} are shown.`) : null;
    this.files.replaceChildren(section("Files", el("div.scroll.tall", {}, table), more));
  }

  fileUrl(file) {
    return `${this.path}/files/${file.path.split("/").map(encodeURIComponent).join("/")}`;
  }
}

function section(title, ...children) {
  return el("section", {}, el("h2", {}, title), ...children);
}

function button(label, about, onclick) {
  return el("button", { type: "button", "aria-label": `${label} ${about}`, onclick }, label);
}

function jobLink(id) {
  return el("a", { href: `#/jobs/${encodeURIComponent(id)}` }, id);
}

function pair(used, asked) {
  if (asked === undefined || asked === null) return used;
  return used === undefined ? `${asked} asked for` : `${used} (${asked} asked for)`;
}

function list(title, facts) {
  const entries = Object.entries(facts).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const pairs = entries.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, ...[value].flat().map((one) => (one instanceof Node ? one : String(one))))]);
  return el("div", {}, el("h3", {}, title), el("dl", {}, ...pairs));
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  return `${(bytes / 1024 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}
