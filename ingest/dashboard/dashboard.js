// The dashboard: every figure on it is the answer to a saved question, fetched from the same API anybody can use.
// Nothing is computed here that the server could not be asked for; only formatting, charts and layout.
import { html, render, useEffect, useRef, useState } from "/vendor/htm-preact.js";

const KEYS = "gemba.keys";
const DAY_MS = 86_400_000;
const RANGES = [["1", "24 hours"], ["7", "7 days"], ["14", "14 days"], ["30", "30 days"], ["90", "90 days"]];
const PAGES = [["overview", "Overview"], ["people", "People"], ["features", "Features"], ["funnel", "Funnel"], ["queries", "Queries"], ["targets", "Targets"]];

// ---- Keys: one read key a project, kept for the browser session only. -----------------------------------------------

function storedKeys() {
  try { return JSON.parse(sessionStorage.getItem(KEYS)) ?? {}; } catch { return {}; }
}

/// A link may carry a key, "#key=KEY&page=funnel": it is taken out of the address at once, so that it is not shared by
/// accident.
function keyFromAddress() {
  const key = linkedKey();
  if (key) history.replaceState(null, "", `${location.pathname}#${linked().get("page") ?? "overview"}`);
  return key;
}

const linked = () => new URLSearchParams(location.hash.slice(1));
const linkedKey = () => linked().get("key") || null;

class ApiProblem extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `the server answered ${status}`);
    this.hint = body?.error?.hint ?? "";
    this.status = status;
  }
}

async function call(key, path, options = {}) {
  const response = await fetch(path, { ...options, headers: { authorization: `Bearer ${key}`, ...options.headers } });
  const body = await response.json().catch(() => null);
  if (!response.ok) throw new ApiProblem(response.status, body);
  return body;
}

/// The rows of an answer as objects keyed by column.
function objects(answer) {
  return answer.rows.map((row) => Object.fromEntries(answer.columns.map((column, index) => [column.name, row[index]])));
}

// ---- Formatting -----------------------------------------------------------------------------------------------------

const integers = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const count = (value) => value == null ? "–" : integers.format(Math.round(value));
const short = (value) => value == null ? "–" : Math.abs(value) < 10_000 ? count(value) : compact.format(value);
const percent = (value) => value == null ? "–" : `${(value * 100).toFixed(value > 0 && value < 0.1 ? 1 : 0)} %`;
function duration(ms) {
  if (ms == null) return "–";
  if (ms < 1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 1000) return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 7_200_000) return `${(ms / 60_000).toFixed(0)} min`;
  if (ms < 2 * DAY_MS) return `${(ms / 3_600_000).toFixed(1)} h`;
  return `${(ms / DAY_MS).toFixed(1)} days`;
}

// ---- Fetching -------------------------------------------------------------------------------------------------------

/// State of one request: { answer } or { problem } or neither while it is under way. Late answers of an older request are
/// dropped.
function useCall(key, path, options, dependencies) {
  const [state, setState] = useState({});
  useEffect(() => {
    let current = true;
    setState({});
    if (path) {
      call(key, path, options).then(
        (answer) => current && setState({ answer }),
        (problem) => current && setState({ problem }),
      );
    }
    return () => { current = false; };
  }, dependencies);
  return state;
}

function useQuery(view, name, parameters = {}) {
  const search = new URLSearchParams({ from: view.from, to: view.to, tz: view.tz, ...parameters });
  const path = `/api/v1/queries/${name}?${search}`;
  return useCall(view.key, path, {}, [view.key, path]);
}

// ---- Pieces ---------------------------------------------------------------------------------------------------------

const Problem = ({ problem }) => html`<div class="problem" role="alert">${problem.message}${problem.hint && html` <em>${problem.hint}</em>`}</div>`;

function Answered({ state, empty, children }) {
  if (state.problem) return html`<${Problem} problem=${state.problem} />`;
  if (!state.answer) return html`<div class="empty" aria-busy="true">Asking …</div>`;
  const rows = objects(state.answer);
  return rows.length === 0 && empty ? html`<div class="empty">${empty}</div>` : children(rows, state.answer);
}

const Section = ({ title, lead, children, id }) => html`<section id=${id}><h2>${title}</h2>${lead && html`<p class="lead">${lead}</p>`}${children}</section>`;

const Figure = ({ label, value }) => html`<div class="figure"><div class="value">${value}</div><div class="label">${label}</div></div>`;

/// A table of objects; a column is [heading, cell of a row, "number" or "name" or ""].
const Table = ({ rows, columns }) => html`<div class="scroll"><table>
  <thead><tr>${columns.map(([heading, , kind]) => html`<th class=${kind ?? ""}>${heading}</th>`)}</tr></thead>
  <tbody>${rows.map((row) => html`<tr>${columns.map(([, cell, kind]) => html`<td class=${kind ?? ""}>${cell(row)}</td>`)}</tr>`)}</tbody>
</table></div>`;

const Bar = ({ share, bad }) => html`<span class="bar"><i class=${bad ? "bad" : ""} style=${`width:${Math.max(0, Math.min(1, share || 0)) * 100}%`}></i></span>`;

/// How far the figures of a page can be trusted; the worst of its answers.
function Trust({ states }) {
  const answers = states.map((state) => state.answer).filter(Boolean);
  if (answers.length === 0) return null;
  const incomplete = answers.filter((answer) => !answer.complete);
  const lost = Math.max(...answers.map((answer) => answer.known_loss.records));
  const until = incomplete.length ? incomplete[0].complete_until : null;
  return html`<div class=${`trust ${incomplete.length ? "incomplete" : ""}`}>
    ${until ? `Complete until ${new Date(until).toLocaleString()}; newer records are still being stored.` : "Complete: everything received up to now is in these figures."}
    ${" "}${lost ? `${count(lost)} records are known to be lost in this range.` : "No known loss."}
    ${" "}Answered in ${Math.max(...answers.map((answer) => answer.elapsed_ms))} ms.</div>`;
}

function Chart({ times, values, label }) {
  const place = useRef(null);
  useEffect(() => {
    if (!place.current || times.length === 0) return undefined;
    const styles = getComputedStyle(document.documentElement);
    const color = (name) => styles.getPropertyValue(name).trim();
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    const options = {
      width: place.current.clientWidth, height: 220, cursor: { y: false }, legend: { show: false },
      scales: { y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
      axes: [axis, { ...axis, size: 54, values: (_, ticks) => ticks.map(short) }],
      series: [{}, { label, stroke: color("--brand"), fill: color("--brand-soft"), width: 2, points: { size: 6 } }],
    };
    const plot = new window.uPlot(options, [times, values], place.current);
    const resize = new ResizeObserver(() => plot.setSize({ width: place.current.clientWidth, height: 220 }));
    resize.observe(place.current);
    return () => { resize.disconnect(); plot.destroy(); };
  }, [JSON.stringify(times), JSON.stringify(values)]);
  return html`<div ref=${place}></div>`;
}

// ---- The two ranked lists -------------------------------------------------------------------------------------------

const Evidence = ({ items }) => html`<div class="evidence">${items.filter(([, value]) => value != null && value !== "–" && value !== "").map(([label, value]) => html`<span>${label} <b>${value}</b></span>`)}</div>`;

const UsabilityTargets = ({ rows }) => html`<ol class="rank">${rows.map((row) => html`<li><div>
  <div class="what">${row.name}${row.next_step && html` → ${row.next_step}`} <span class="pill">${row.kind}</span></div>
  <${Evidence} items=${[
    ["people kept per week", count(row.score)],
    ["give up here", percent(row.unfinished_rate)],
    ["comparable", percent(row.comparable_rate)],
    ["people a week", count(row.users_per_week)],
    ["began", count(row.begun)],
  ]} /></div></li>`)}</ol>`;

const OptimizationTargets = ({ rows }) => html`<ol class="rank">${rows.map((row) => html`<li><div>
  <div class="what">${row.summary || row.fingerprint} <span class="pill">${row.reason.replaceAll("_", " ")}</span></div>
  <${Evidence} items=${[
    ["would give back a week", duration((row.score ?? 0) * 1000)],
    ["calls", short(row.calls)],
    ["p50", duration(row.duration_ms_p50)],
    ["p95", duration(row.duration_ms_p95)],
    ["people waiting", count(row.users)],
    ["features", (row.features ?? []).join(", ")],
    ["calls in one use", row.calls_per_use > 1 ? Number(row.calls_per_use).toFixed(0) : null],
  ]} />
  ${row.text && html`<pre>${row.text}</pre>`}</div></li>`)}</ol>`;

const NOTHING_TO_EASE = "Nothing stands out: no feature or step loses clearly more people than comparable ones.";
const NOTHING_TO_SPEED_UP = "Nothing stands out: no query makes people wait clearly longer than it could.";

// ---- Pages ----------------------------------------------------------------------------------------------------------

function Overview({ view }) {
  const people = useQuery(view, "active_users");
  const usage = useQuery(view, "feature_usage");
  const slow = useQuery(view, "slow_queries");
  const usability = useQuery(view, "usability_targets");
  const optimization = useQuery(view, "optimization_targets");
  const sum = (state, column) => state.answer ? objects(state.answer).reduce((total, row) => total + Number(row[column] ?? 0), 0) : null;
  const days = people.answer ? objects(people.answer) : [];
  return html`
    <div class="figures">
      <${Figure} label="people on the busiest day" value=${days.length ? short(Math.max(...days.map((row) => row.users))) : "–"} />
      <${Figure} label="uses of features" value=${short(sum(usage, "uses"))} />
      <${Figure} label="features used" value=${usage.answer ? count(usage.answer.rows.length) : "–"} />
      <${Figure} label="database queries" value=${short(sum(slow, "calls"))} />
      <${Figure} label="time spent waiting for them" value=${duration(sum(slow, "duration_ms_total"))} />
    </div>
    <${Section} title="Active people" lead="Distinct people who used anything, by day.">
      <${Answered} state=${people} empty="Nobody has used anything in this range.">${(rows) => html`<${Chart} times=${rows.map((row) => new Date(row.day).getTime() / 1000)} values=${rows.map((row) => row.users)} label="people" />`}<//>
    <//>
    <div class="pair">
      <${Section} title="Make easier" lead="Where clearly more people give up than at comparable places, by how many that are.">
        <${Answered} state=${usability} empty=${NOTHING_TO_EASE}>${(rows) => html`<${UsabilityTargets} rows=${rows.slice(0, 3)} />`}<//>
      <//>
      <${Section} title="Make faster" lead="Queries that make people wait longer than they need to, by the time a cure gives back.">
        <${Answered} state=${optimization} empty=${NOTHING_TO_SPEED_UP}>${(rows) => html`<${OptimizationTargets} rows=${rows.slice(0, 3)} />`}<//>
      <//>
    </div>
    <${Trust} states=${[people, usage, slow, usability, optimization]} />`;
}

/// Who comes back: always whole weeks, whatever range is chosen, since a cohort needs time.
function People({ view }) {
  const weeks = { from: new Date(Date.parse(view.to) - 56 * DAY_MS).toISOString() };
  const retention = useQuery(view, "retention", weeks);
  const lifecycle = useQuery(view, "lifecycle", weeks);
  const stickiness = useQuery(view, "stickiness");
  return html`
    <${Section} title="Active people" lead="Distinct people by day; the last column says which share of a month's people come on one day.">
      <${Answered} state=${stickiness} empty="Nobody has used anything in this range.">${(rows) => html`
        <${Chart} times=${rows.map((row) => new Date(row.day).getTime() / 1000)} values=${rows.map((row) => row.daily_users)} label="people" />
        <${Table} rows=${rows.slice(-7).reverse()} columns=${[
          ["Day", (row) => row.day, "name"], ["That day", (row) => count(row.daily_users), "number"], ["7 days", (row) => count(row.weekly_users), "number"],
          ["30 days", (row) => count(row.monthly_users), "number"], ["Stickiness", (row) => percent(row.stickiness), "number"],
        ]} />`}<//>
    <//>
    <${Section} title="Who comes back" lead="People by the week of their first activity ever, and the share of them active again in later weeks. Pale: the week is not over.">
      <${Answered} state=${retention} empty="Nobody began in the last eight weeks.">${(rows) => html`<${Cohorts} rows=${rows} />`}<//>
    <//>
    <${Section} title="New, returning, lost" lead="Of each week's people: first ever, active the week before as well, back after a pause, and gone since the week before.">
      <${Answered} state=${lifecycle}>${(rows) => html`<${Table} rows=${rows.slice().reverse()} columns=${[
        ["Week of", (row) => html`${row.period_day}${row.is_open ? " …" : ""}`, "name"], ["New", (row) => count(row.new), "number"],
        ["Returning", (row) => count(row.returning), "number"], ["Resurrected", (row) => count(row.resurrected), "number"], ["Dormant", (row) => count(row.dormant), "number"],
      ]} />`}<//>
    <//>
    <${Trust} states=${[retention, lifecycle, stickiness]} />`;
}

/// One line a cohort, one cell a period: the share that came back, the darker the more.
function Cohorts({ rows }) {
  const cohorts = new Map();
  for (const row of rows) cohorts.set(row.cohort, [...(cohorts.get(row.cohort) ?? []), row]);
  const most = Math.max(...[...cohorts.values()].map((cells) => cells.length));
  return html`<div class="scroll"><table class="cohorts">
    <thead><tr><th>Week of</th><th class="number">People</th>${Array.from({ length: most }, (_, ahead) => html`<th class="number">${ahead === 0 ? "Same" : `+${ahead}`}</th>`)}</tr></thead>
    <tbody>${[...cohorts].map(([cohort, cells]) => html`<tr><td class="name">${cohort}</td><td class="number">${count(cells[0].users)}</td>
      ${cells.map((cell) => html`<td class=${`number ${cell.is_open ? "open" : ""}`}><i style=${`opacity:${cell.rate}`}></i><span>${percent(cell.rate)}</span></td>`)}</tr>`)}</tbody>
  </table></div>`;
}

function Features({ view }) {
  const usage = useQuery(view, "feature_usage");
  const completion = useQuery(view, "feature_completion");
  const unused = useQuery(view, "feature_unused");
  return html`
    <${Section} title="What people use" lead="Each feature with how often and by how many people it was used.">
      <${Answered} state=${usage} empty="No feature was used in this range.">${(rows) => {
        const most = Math.max(1, ...rows.map((row) => row.uses));
        return html`<${Table} rows=${rows} columns=${[
          ["Feature", (row) => row.feature, "name"], ["Uses", (row) => count(row.uses), "number"],
          ["", (row) => html`<${Bar} share=${row.uses / most} />`], ["People", (row) => count(row.users), "number"],
          ["Sessions", (row) => count(row.sessions), "number"],
        ]} />`;
      }}<//>
    <//>
    <${Section} title="What people finish" lead="Attempts begun in this range, by how they ended. Open ones are unfinished after half an hour.">
      <${Answered} state=${completion} empty="No attempt was begun in this range.">${(rows) => html`<${Table} rows=${rows} columns=${[
        ["Feature", (row) => row.feature, "name"], ["Begun", (row) => count(row.begun), "number"],
        ["Completed", (row) => percent(row.completion_rate), "number"], ["", (row) => html`<${Bar} share=${row.completion_rate} />`],
        ["Failed", (row) => count(row.failed), "number"], ["Abandoned", (row) => count(row.abandoned), "number"],
        ["Cancelled", (row) => count(row.cancelled), "number"], ["Panicked", (row) => count(row.panicked), "number"], ["Open", (row) => count(row.open), "number"],
      ]} />`}<//>
    <//>
    <${Section} title="What nobody uses" lead="Declared by the newest release and never used in this range.">
      <${Answered} state=${unused} empty="Everything declared was used.">${(rows) => html`<${Table} rows=${rows} columns=${[
        ["Feature", (row) => row.name, "name"], ["Kind", (row) => row.kind], ["Declared at", (row) => html`<code>${row.code}</code>`], ["Release", (row) => row.release],
      ]} />`}<//>
    <//>
    <${Trust} states=${[usage, completion, unused]} />`;
}

function Funnel({ view }) {
  const declared = useQuery(view, "declared_funnels");
  const [chosen, choose] = useState(null);
  const funnels = new Map();
  if (declared.answer) {
    for (const row of objects(declared.answer)) funnels.set(row.funnel, [...(funnels.get(row.funnel) ?? []), row.step]);
  }
  const name = chosen ?? funnels.keys().next().value;
  const steps = funnels.get(name);
  const body = steps && JSON.stringify({ steps: steps.map((step) => ({ event: `step:${step}` })), from: view.from, to: view.to, tz: view.tz, window_ms: DAY_MS });
  const funnel = useCall(view.key, body && "/api/v1/funnel", { method: "POST", body, headers: { "content-type": "application/json" } }, [view.key, body]);
  if (declared.answer && funnels.size === 0) {
    return html`<${Section} title="Funnel"><div class="empty">No release has declared a funnel yet. Any events can be asked with <code>gemba funnel</code>.</div><//>`;
  }
  return html`
    <${Section} id="funnel" title=${html`Funnel <select aria-label="Funnel" value=${name} onChange=${(event) => choose(event.target.value)}>${[...funnels.keys()].map((each) => html`<option>${each}</option>`)}</select>`}
      lead="People who took the steps in order within a day of their first. Striped: lost before the next step. Amber: still has time.">
      ${declared.problem && html`<${Problem} problem=${declared.problem} />`}
      ${funnel.problem && html`<${Problem} problem=${funnel.problem} />`}
      ${!funnel.answer && !funnel.problem && !declared.problem && html`<div class="empty" aria-busy="true">Asking …</div>`}
      ${funnel.answer && funnel.answer.steps.map((step, index) => {
        const all = Math.max(1, funnel.answer.steps[0].count);
        const next = funnel.answer.steps[index + 1];
        const width = (people) => `width:${(people / all) * 100}%`;
        return html`<div class="step">
          <div><b>${step.label.replace(/^step:/, "")}</b><small>${index > 0 ? `${percent(step.rate_from_previous)} of the step before` : "everybody who entered"}</small></div>
          <div class="column"><i style=${width(next ? step.count - step.lost - step.open : step.count)}></i><i class="open" style=${width(step.open)}></i><i class="lost" style=${width(step.lost)}></i></div>
          <div>${count(step.count)} people <small>${next ? `${count(step.lost)} lost (${percent(step.lost / Math.max(1, step.count))}), ${count(step.open)} open` : `${percent(step.rate_from_first)} of all`}${step.time_from_previous_ms ? ` · p50 ${duration(step.time_from_previous_ms.p50)} from the step before` : ""}</small></div>
        </div>`;
      })}
    <//>
    <${Trust} states=${[funnel]} />`;
}

function Queries({ view }) {
  const slow = useQuery(view, "slow_queries");
  const regressions = useQuery(view, "query_regressions");
  return html`
    <${Section} title="Hot queries" lead="All database queries, counted one by one, ranked by the time spent in them.">
      <${Answered} state=${slow} empty="No query was run in this range.">${(rows) => {
        const most = Math.max(1, ...rows.map((row) => row.duration_ms_total));
        return html`<${Table} rows=${rows} columns=${[
          ["Query", (row) => html`<b>${row.summary || row.fingerprint}</b><br /><code>${row.text}</code>`],
          ["Calls", (row) => short(row.calls), "number"], ["Total", (row) => html`${duration(row.duration_ms_total)}<${Bar} share=${row.duration_ms_total / most} bad />`, "number"],
          ["p50", (row) => duration(row.duration_ms_p50), "number"], ["p95", (row) => duration(row.duration_ms_p95), "number"], ["p99", (row) => duration(row.duration_ms_p99), "number"],
          ["People", (row) => count(row.users), "number"], ["Features", (row) => (row.features ?? []).join(", ")],
        ]} />`;
      }}<//>
    <//>
    <${Section} title="Slower since the newest release">
      <${Answered} state=${regressions} empty="No query got clearly slower.">${(rows) => html`<${Table} rows=${rows} columns=${[
        ["Query", (row) => html`<b>${row.summary || row.fingerprint}</b><br /><code>${row.text}</code>`],
        ["Before", (row) => duration(row.base_duration_ms_p50), "number"], ["Now", (row) => duration(row.head_duration_ms_p50), "number"],
        ["Release", (row) => `${row.base_release} → ${row.head_release}`], ["Calls now", (row) => short(row.head_calls), "number"],
      ]} />`}<//>
    <//>
    <${Trust} states=${[slow, regressions]} />`;
}

function Targets({ view }) {
  const usability = useQuery(view, "usability_targets");
  const optimization = useQuery(view, "optimization_targets");
  return html`
    <div class="pair">
      <${Section} id="usability" title="Make easier" lead="Score: people per week who give up beyond what is usual at comparable places, at the lower end of what the data allow.">
        <${Answered} state=${usability} empty=${NOTHING_TO_EASE}>${(rows) => html`<${UsabilityTargets} rows=${rows} />`}<//>
      <//>
      <${Section} id="optimization" title="Make faster" lead="Score: time people would get back per week if the query ran as fast as it has shown it can.">
        <${Answered} state=${optimization} empty=${NOTHING_TO_SPEED_UP}>${(rows) => html`<${OptimizationTargets} rows=${rows} />`}<//>
      <//>
    </div>
    <${Trust} states=${[usability, optimization]} />`;
}

// ---- Frame ----------------------------------------------------------------------------------------------------------

function SignIn({ onKey, problem }) {
  const [key, setKey] = useState("");
  return html`<form class="sign-in" onSubmit=${(event) => { event.preventDefault(); onKey(key.trim()); }}>
    <h1>Gemba</h1>
    <p class="lead">Paste the read key of a project. It is in <code>credentials.json</code> of the data folder, or was printed by <code>gemba project create</code>.</p>
    ${problem && html`<${Problem} problem=${problem} />`}
    <input type="password" aria-label="Read key" placeholder="gr_…" autocomplete="off" value=${key} onInput=${(event) => setKey(event.target.value)} autofocus />
    <button class="primary" disabled=${!key.trim()}>Open</button>
  </form>`;
}

function App() {
  const [keys, setKeys] = useState(storedKeys);
  const [project, setProject] = useState(() => Object.keys(storedKeys())[0] ?? null);
  const [page, setPage] = useState(() => location.hash.slice(1) || "overview");
  const [range, setRange] = useState("7");
  const [now, setNow] = useState(() => Date.now());
  const [problem, setProblem] = useState(null);
  const [adding, setAdding] = useState(false);
  const [opening, setOpening] = useState(() => linkedKey() !== null);

  const add = (key) => call(key, "/api/v1/project").then((answer) => {
    const all = { ...storedKeys(), [answer.project]: key };
    sessionStorage.setItem(KEYS, JSON.stringify(all));
    setKeys(all);
    setProject(answer.project);
    setProblem(null);
    setAdding(false);
  }, setProblem).finally(() => setOpening(false));

  useEffect(() => {
    const turn = () => { const given = keyFromAddress(); if (given) add(given); setPage(location.hash.slice(1) || "overview"); };
    turn();
    addEventListener("hashchange", turn);
    return () => removeEventListener("hashchange", turn);
  }, []);

  if (opening) return html`<main><div class="empty" aria-busy="true">Opening …</div></main>`;
  if (!project || adding) return html`<${SignIn} onKey=${add} problem=${problem} />`;
  const view = {
    key: keys[project], from: new Date(now - Number(range) * DAY_MS).toISOString(), to: new Date(now).toISOString(),
    tz: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC",
  };
  const Page = { overview: Overview, people: People, features: Features, funnel: Funnel, queries: Queries, targets: Targets }[page] ?? Overview;
  return html`
    <header>
      <span class="brand">Gemba</span>
      <nav>${PAGES.map(([name, title]) => html`<a href=${`#${name}`} aria-current=${page === name ? "page" : null}>${title}</a>`)}</nav>
      <select aria-label="Project" value=${project} onChange=${(event) => event.target.value === "" ? setAdding(true) : setProject(event.target.value)}>
        ${Object.keys(keys).map((name) => html`<option value=${name}>${name}</option>`)}<option value="">another …</option>
      </select>
      <select aria-label="Time range" value=${range} onChange=${(event) => { setRange(event.target.value); setNow(Date.now()); }}>
        ${RANGES.map(([days, title]) => html`<option value=${days}>${title}</option>`)}
      </select>
      <button onClick=${() => setNow(Date.now())} title="Ask again">↻</button>
    </header>
    <main><${Page} key=${`${project}-${page}`} view=${view} /></main>`;
}

render(html`<${App} />`, document.getElementById("app"));
