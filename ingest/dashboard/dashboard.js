// The dashboard: every figure on it is the answer to a saved question, fetched from the same API anybody can use.
// Nothing is computed here that the server could not be asked for; only formatting, charts and layout.
import { html, render, useEffect, useRef, useState } from "/vendor/htm-preact.js";

const KEYS = "gemba.keys";
const DAY_MS = 86_400_000;
const RANGES = [["1", "24 hours"], ["7", "7 days"], ["14", "14 days"], ["30", "30 days"], ["90", "90 days"]];
const PAGES = [["overview", "Overview"], ["people", "People"], ["features", "Features"], ["funnel", "Funnel"], ["queries", "Queries"], ["targets", "Targets"], ["saved", "Saved"]];

// ---- Keys: one read key a project, kept for the browser session only. -----------------------------------------------

function storedKeys() {
  try { return JSON.parse(sessionStorage.getItem(KEYS)) ?? {}; } catch { return {}; }
}

/// A link may carry a key, "#key=KEY&page=funnel": it is taken out of the address at once, so that it is not shared by
/// accident.
function keyFromAddress() {
  const key = linkedKey();
  if (key) {
    const rest = linked();
    const page = rest.get("page") ?? "overview";
    rest.delete("key");
    rest.delete("page");
    history.replaceState(null, "", `${location.pathname}#${[page, rest.toString()].filter(Boolean).join("&")}`);
  }
  return key;
}

/// What a link names besides the page: "#queries&query=FINGERPRINT" opens one query, "#funnel&saved=NAME" a saved funnel.
const place = () => { const [page, ...rest] = location.hash.slice(1).split("&"); return { page: page || "overview", ...Object.fromEntries(new URLSearchParams(rest.join("&"))) }; };
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
  const response = await fetch(path, { ...options, headers: { authorization: `Bearer ${key}`, ...options.headers } })
    .catch(() => { throw new ApiProblem(0, { error: { message: "The server cannot be reached.", hint: "Is it running? Ask again with ↻." } }); });
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
  const path = name && `/api/v1/queries/${name}?${search}`;
  return useCall(view.key, path, {}, [view.key, path]);
}

/// The same of the people chosen above the page: a cohort, or everybody.
const usePeople = (view, name, parameters = {}) => useQuery(view, name, view.cohort ? { cohort: view.cohort, ...parameters } : parameters);

/// A cohort is chosen among those of the project; what has none shows nothing.
function useCohorts(key, changed) {
  const state = useCall(key, key && "/api/v1/cohorts", {}, [key, changed]);
  return state.answer?.cohorts ?? [];
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
const Table = ({ rows, columns }) => html`<div class="scroll" tabindex="0" role="region" aria-label="Table"><table>
  <thead><tr>${columns.map(([heading, , kind]) => html`<th scope="col" class=${kind ?? ""}>${heading}</th>`)}</tr></thead>
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
  const filtered = answers.find((answer) => answer.filter?.applied);
  const cohort = answers.find((answer) => answer.cohort)?.cohort;
  return html`<div class=${`trust ${incomplete.length ? "incomplete" : ""}`} role="status">
    ${cohort && html`Only people of the cohort ${cohort.name} (${count(cohort.members)}). `}
    ${filtered && html`<span title=${filtered.filter.excludes.map((each) => `${each.attr} ${each.op} ${JSON.stringify(each.value)}`).join(" or ")}>Internal users and bots are left out. </span>`}
    ${until ? `Complete until ${new Date(until).toLocaleString()}; newer records are still being stored.` : "Complete: everything received up to now is in these figures."}
    ${" "}${lost ? `${count(lost)} records are known to be lost in this range.` : "No known loss."}
    ${" "}Answered in ${Math.max(...answers.map((answer) => answer.elapsed_ms))} ms.</div>`;
}

function Chart({ times, values, label }) {
  const place = useRef(null);
  const theme = useTheme();
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
  }, [JSON.stringify(times), JSON.stringify(values), theme]);
  return html`<div ref=${place} role="img" aria-label=${`${label}: ${times.length} points, from ${short(Math.min(...values))} to ${short(Math.max(...values))}`}></div>`;
}

const DARK = matchMedia("(prefers-color-scheme: dark)");

/// Rises when the theme changes, so that charts take its colours.
function useTheme() {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const changed = () => setTurn((before) => before + 1);
    DARK.addEventListener("change", changed);
    return () => DARK.removeEventListener("change", changed);
  }, []);
  return turn;
}

/// Counts by length of time, as bars.
function Histogram({ buckets }) {
  const most = Math.max(1, ...buckets.map((bucket) => bucket.count));
  const bound = (bucket, index) => bucket.up_to_ms == null ? `over ${duration(buckets[index - 1]?.up_to_ms)}` : `≤ ${duration(bucket.up_to_ms)}`;
  return html`<div class="histogram" role="img" aria-label=${buckets.map((bucket, index) => `${bound(bucket, index)}: ${bucket.count}`).join(", ")}>
    ${buckets.map((bucket, index) => html`<div title=${`${bound(bucket, index)}: ${count(bucket.count)}`}><i style=${`height:${(bucket.count / most) * 100}%`}></i><small>${bound(bucket, index)}</small></div>`)}
  </div>`;
}

/// How the times of a query's calls are spread: bars on an axis where each doubling is as long, their height the calls for such a
/// length, so that wide and narrow ranges can be laid side by side. What has no lower bound begins half a doubling below its end.
function Latency({ rows }) {
  const shortest = Math.min(...rows.filter((row) => row.duration_ms_to > 0).map((row) => row.duration_ms_from || row.duration_ms_to / 2));
  const least = Number.isFinite(shortest) ? shortest : 1;
  const ends = rows.map((row) => { const to = row.duration_ms_to || least; return { row, from: Math.log2(row.duration_ms_from || to / Math.SQRT2), to: Math.log2(to) }; });
  const first = Math.min(...ends.map((end) => end.from));
  const length = Math.max(...ends.map((end) => end.to)) - first || 1;
  const height = ({ row, from, to }) => row.calls / Math.max(to - from, 0.01);
  const most = Math.max(...ends.map(height)) || 1;
  const told = (row) => row.duration_ms_to === 0 ? "no measurable time" : `${duration(row.duration_ms_from)} to ${duration(row.duration_ms_to)}`;
  const ticks = Array.from({ length: 31 }, (_, index) => 10 ** (index - 12)).filter((ms) => Math.log2(ms) >= first && Math.log2(ms) <= first + length);
  return html`<div class="latency" role="img" aria-label=${rows.map((row) => `${told(row)}: ${row.calls} calls`).join(", ")}>
      ${ends.map((end) => html`<i title=${`${told(end.row)}: ${count(end.row.calls)} calls, ${percent(end.row.share_up_to)} up to here`}
        style=${`left:${((end.from - first) / length) * 100}%;width:${((end.to - end.from) / length) * 100}%;height:${(height(end) / most) * 100}%`}></i>`)}
    </div>
    <div class="ticks" aria-hidden="true">${ticks.map((ms) => html`<small style=${`left:${((Math.log2(ms) - first) / length) * 100}%`}>${duration(ms)}</small>`)}</div>
    <details class="times"><summary>As a table</summary><${Table} rows=${rows} columns=${[
      ["Longer than", (row) => duration(row.duration_ms_from), "number"], ["At most", (row) => duration(row.duration_ms_to), "number"], ["Calls", (row) => count(row.calls), "number"],
      ["Share", (row) => percent(row.share), "number"], ["Up to here", (row) => percent(row.share_up_to), "number"], ["A call is told to", (row) => row.within_rate == null ? "–" : `± ${(row.within_rate * 100).toFixed(1)} %`, "number"],
    ]} /></details>`;
}

/// The largest deviation of a call from the middle of its range, in words.
const toldTo = (rows) => { const rates = rows.map((row) => row.within_rate).filter((rate) => rate != null); return rates.length ? `A call is told to ± ${(Math.max(...rates) * 100).toFixed(1)} %.` : ""; };

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
  <div class="what"><a href=${`#queries&query=${row.fingerprint}`}>${row.summary || row.fingerprint}</a> <span class="pill">${row.reason.replaceAll("_", " ")}</span></div>
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
  const people = usePeople(view, "active_users");
  const usage = usePeople(view, "feature_usage");
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
  const retention = usePeople(view, "retention", weeks);
  const lifecycle = usePeople(view, "lifecycle", weeks);
  const stickiness = usePeople(view, "stickiness");
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
        ["Week of", (row) => html`${row.period_day}${row.is_open ? " …" : ""}`, "name"], ["Active", (row) => count(row.active), "number"], ["New", (row) => count(row.new), "number"],
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
  const usage = usePeople(view, "feature_usage");
  const completion = usePeople(view, "feature_completion");
  const unused = useQuery(view, "feature_unused");
  const releases = useQuery(view, "feature_releases", { from: new Date(Date.parse(view.to) - 90 * DAY_MS).toISOString() });
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
    <${Section} title="What releases changed" lead="New, renamed and gone by release, and what was carried on without anybody using it.">
      <${Answered} state=${releases} empty="No release has declared features in the last 90 days.">${(rows) => html`<${Table} rows=${rows.slice(0, 30)} columns=${[
        ["Release", (row) => `${row.service} ${row.release}`], ["Feature", (row) => row.name, "name"], ["", (row) => html`<span class="pill">${row.change}</span>${row.was && ` was ${row.was}`}`],
        ["Uses", (row) => count(row.uses), "number"], ["People", (row) => count(row.users), "number"],
      ]} />`}<//>
    <//>
    <${Trust} states=${[usage, completion, unused, releases]} />`;
}

/// Whether the base of a comparison begins as long before as the range lasts.
const before = (view) => { const length = Date.parse(view.to) - Date.parse(view.from); return { from: new Date(Date.parse(view.from) - length).toISOString(), to: view.from }; };

const WINDOWS = [["1800000", "30 minutes"], ["3600000", "1 hour"], [`${DAY_MS}`, "1 day"], [`${7 * DAY_MS}`, "7 days"], [`${14 * DAY_MS}`, "14 days"], [`${30 * DAY_MS}`, "30 days"]];
const ORDERS = [["ordered", "in this order"], ["strict", "one right after the other"], ["any", "in any order"]];
const INTERVALS = [["", "no"], ["hour", "by hour"], ["day", "by day"], ["week", "by week"], ["month", "by month"]];
const UNITS = [["user", "people"], ["session", "sessions"], ["tenant", "tenants"]];

const Choice = ({ label, value, options, onChange }) => html`<label><span>${label}</span><select value=${value} onChange=${(event) => onChange(event.target.value)}>
  ${options.map(([word, title]) => html`<option value=${word}>${title}</option>`)}</select></label>`;

/// Steps of a declared funnel.
const stepsOf = (names) => (names ?? []).map((event) => ({ event }));

/// What a kept funnel asks for beyond what the form can change, so that it is asked, and kept again, as a whole. The range is the page's.
const rest = ({ steps, window_ms, order, count_by, breakdown, interval, from, to, tz, dropped, compare, ...others }) => others;

/// Builds a funnel: which steps, within what time, split by what, compared with what; and shows its answer.
function Funnel({ view }) {
  const declared = useQuery(view, "declared_funnels");
  const usage = useQuery(view, "feature_usage");
  const named = place().saved;
  const kept = useCall(view.key, named && `/api/v1/saved/${encodeURIComponent(named)}`, {}, [view.key, named]);
  const [own, setOwn] = useState(null);
  const funnels = new Map();
  if (declared.answer) {
    for (const row of objects(declared.answer)) funnels.set(row.funnel, [...(funnels.get(row.funnel) ?? []), `step:${row.step}`]);
  }
  const first = funnels.keys().next().value;
  const start = { name: first, steps: stepsOf(funnels.get(first)), rest: {}, window: `${DAY_MS}`, order: "ordered", unit: "user", breakdown: "", interval: "", compare: false };
  const loaded = kept.answer?.funnel && {
    ...start, name: "", steps: kept.answer.funnel.steps, rest: rest(kept.answer.funnel), window: `${kept.answer.funnel.window_ms ?? 14 * DAY_MS}`,
    order: kept.answer.funnel.order ?? "ordered", unit: kept.answer.funnel.count_by ?? "user", breakdown: kept.answer.funnel.breakdown ?? "", interval: kept.answer.funnel.interval ?? "", compare: false,
  };
  const asked = own ?? loaded ?? start;
  const change = (fields) => setOwn({ ...asked, ...fields });
  const events = [...new Set([...[...funnels.values()].flat(), ...(usage.answer ? objects(usage.answer).map((row) => row.feature) : [])])];
  const steps = asked.steps.filter((step, index) => step.event || step.where || index < 2);
  const question = {
    ...asked.rest, steps: steps.map(({ event, ...more }) => ({ ...(event && { event }), ...more })), window_ms: Number(asked.window), order: asked.order, count_by: asked.unit,
    ...(asked.breakdown && { breakdown: asked.breakdown, breakdown_limit: asked.rest.breakdown_limit ?? 5 }), ...(asked.interval && { interval: asked.interval }),
  };
  const ready = steps.length >= 2 && (declared.answer || declared.problem) && (!named || kept.answer || kept.problem);
  const body = ready && JSON.stringify({
    ...question, from: view.from, to: view.to, tz: view.tz, ...(view.cohort && { cohort: view.cohort }), ...(asked.compare && { compare: before(view) }),
  });
  const funnel = useCall(view.key, body && "/api/v1/funnel", { method: "POST", body, headers: { "content-type": "application/json" } }, [view.key, body]);
  const who = { user: "people", session: "sessions", tenant: "tenants" }[asked.unit];
  return html`
    <${Section} id="build" title="Build a funnel" lead="Pick what people do, step by step. Names come from what was declared and used; any other event name works as well.">
      ${declared.problem && html`<${Problem} problem=${declared.problem} />`}
      ${kept.problem && html`<${Problem} problem=${kept.problem} />`}
      <form class="builder" onSubmit=${(event) => event.preventDefault()}>
        ${funnels.size > 0 && html`<${Choice} label="Start from" value=${asked.name ?? ""} onChange=${(name) => change(funnels.has(name) ? { name, steps: stepsOf(funnels.get(name)), rest: {} } : { name })}
          options=${[...[...funnels.keys()].map((each) => [each, each]), ["", "my own steps"]]} />`}
        <fieldset><legend>Steps</legend><ol>${asked.steps.map((step, index) => html`<li>
          <input aria-label=${`Step ${index + 1}`} list="events" value=${step.event ?? ""} placeholder="any event" onChange=${(event) => change({ name: "", steps: asked.steps.map((each, at) => (at === index ? { ...each, event: event.target.value.trim() } : each)) })} />
          <button type="button" title="Earlier" aria-label=${`Move step ${index + 1} earlier`} disabled=${index === 0} onClick=${() => change({ name: "", steps: asked.steps.map((each, at) => (at === index ? asked.steps[index - 1] : at === index - 1 ? step : each)) })}>↑</button>
          <button type="button" title="Remove" aria-label=${`Remove step ${index + 1}`} disabled=${asked.steps.length <= 2} onClick=${() => change({ name: "", steps: asked.steps.filter((_, at) => at !== index) })}>×</button>
          ${step.where && html`<small>where ${JSON.stringify(step.where)}</small>`}
        </li>`)}</ol>
        <button type="button" disabled=${asked.steps.length >= 32} onClick=${() => change({ name: "", steps: [...asked.steps, ...(asked.steps.length === 0 ? [{}, {}] : [{}])] })}>Add a step</button></fieldset>
        <datalist id="events">${events.map((each) => html`<option value=${each}></option>`)}</datalist>
        <${Choice} label="Done" value=${asked.order} options=${ORDERS} onChange=${(order) => change({ order })} />
        <${Choice} label="Within" value=${asked.window} options=${WINDOWS.some(([ms]) => ms === asked.window) ? WINDOWS : [...WINDOWS, [asked.window, duration(Number(asked.window))]]} onChange=${(window) => change({ window })} />
        <${Choice} label="Count" value=${asked.unit} options=${UNITS} onChange=${(unit) => change({ unit })} />
        <label><span>Split by</span><input list="keys" value=${asked.breakdown} placeholder="release, user:plan …" onChange=${(event) => change({ breakdown: event.target.value.trim() })} /></label>
        <datalist id="keys">${["release", "service.name", "gemba.tenant"].map((each) => html`<option value=${each}></option>`)}</datalist>
        <${Choice} label="Over time" value=${asked.interval} options=${INTERVALS} onChange=${(interval) => change({ interval })} />
        ${Object.keys(asked.rest).length > 0 && html`<p>Also part of this question: <code>${JSON.stringify(asked.rest)}</code>
          <button type="button" onClick=${() => change({ rest: {} })}>Leave it out</button></p>`}
        <label class="check"><input type="checkbox" checked=${asked.compare} onChange=${(event) => change({ compare: event.target.checked })} /> <span>Compare with the time before</span></label>
        <${Save} view=${view} what="funnel" question=${{ funnel: question }} disabled=${!body} />
      </form>
    <//>
    <${Section} id="funnel" title=${asked.name ? `Funnel ${asked.name}` : "Funnel"} lead=${`Striped: lost before the next step. Amber: still has time.`}>
      ${asked.steps.length < 2 && declared.answer && html`<div class="empty">No release has declared a funnel in this project. Add two steps or more above.</div>`}
      ${funnel.problem && html`<${Problem} problem=${funnel.problem} />`}
      ${!funnel.answer && !funnel.problem && !declared.problem && (body || !declared.answer) && html`<div class="empty" aria-busy="true">Asking …</div>`}
      ${funnel.answer && html`<${Steps} steps=${funnel.answer.steps} who=${who} />`}
      ${funnel.answer && funnel.answer.steps[0].count === 0 && html`<div class="empty">Nobody entered this funnel in this range.</div>`}
    <//>
    ${funnel.answer?.over_time.length > 0 && html`<${OverTime} periods=${funnel.answer.over_time} who=${who} />`}
    ${funnel.answer && asked.unit === "user" && html`<${KeepPeople} view=${view} steps=${funnel.answer.steps} funnel=${{ ...question, from: view.from, to: view.to, tz: view.tz, ...(view.cohort && { cohort: view.cohort }) }} />`}
    ${funnel.answer?.comparison && html`<${Section} title="Compared with the time before" lead="Shares of those who entered and whose time is over, with the 95 % interval of the difference (Newcombe): of the others only who was quick is known.">
      ${!(funnel.answer.comparison.until && funnel.answer.comparison.base_until) && html`<div class="empty">Nobody's time is over in ${funnel.answer.comparison.until ? "the time before" : "this range"}: choose a shorter time than ${duration(Number(asked.window))}, or a longer range.</div>`}
      <${Table} rows=${funnel.answer.comparison.steps.slice(1)} columns=${[
        ["Step", (row) => bare(row.label), "name"], ["Before", (row) => percent(row.from_first.base.rate), "number"], ["Now", (row) => percent(row.from_first.head.rate), "number"],
        ["Difference", (row) => points(row.from_first.difference), "number"], ["95 %", (row) => `${points(row.from_first.low)} to ${points(row.from_first.high)}`, "number"],
        ["", (row) => html`<span class=${`pill ${row.from_first.verdict === "more than chance" ? (row.from_first.difference < 0 ? "worse" : "better") : "chance"}`}>${row.from_first.verdict}</span>`],
      ]} /><//>`}
    ${funnel.answer?.breakdown.length > 0 && html`<${Section} title=${`By ${asked.breakdown}`} lead="The five largest values at the first step, then all others together, and those without a value.">
      <${Table} rows=${funnel.answer.breakdown} columns=${[
        ["Value", (row) => row.group === "value" ? `${row.value}` : row.group.replace("_", " "), "name"],
        ...funnel.answer.steps.map((step, index) => [bare(step.label), (row) => html`${count(row.steps[index].count)} <small>${index ? percent(row.steps[index].rate_from_first) : ""}</small>`, "number"]),
      ]} /><//>`}
    <${Trust} states=${[funnel]} />`;
}

/// Conversion by the period in which people began; who still has time is told, since they can still convert.
const OverTime = ({ periods, who }) => html`<${Section} id="over-time" title="Over time" lead="By the period in which they began, through to the last step whenever they got there. The rate of a period may rise while some still have time.">
  <${Chart} times=${periods.map((period) => Date.parse(period.start) / 1000)} values=${periods.map((period) => period.rate == null ? null : period.rate * 100)} label="through, %" />
  <${Table} rows=${periods.slice().reverse()} columns=${[
    ["Beginning", (row) => row.start.slice(0, 16).replace("T", " "), "name"], [`Began, ${who}`, (row) => count(row.counts[0]), "number"], ["Through", (row) => count(row.counts.at(-1)), "number"],
    ["Rate", (row) => percent(row.rate), "number"], ["Still have time", (row) => count(row.open.reduce((sum, open) => sum + open, 0)), "number"],
  ]} /><//>`;

/// Keeps the people of a funnel as a cohort, to ask other questions about them.
function KeepPeople({ view, steps, funnel }) {
  const [name, setName] = useState("");
  const [at, setAt] = useState("reached:0");
  const [state, setState] = useState({});
  const options = steps.flatMap((step, index) => [[`reached:${index}`, `who reached ${bare(step.label)}`], ...(index < steps.length - 1 ? [[`step:${index}`, `who were lost after ${bare(step.label)}`]] : [])]);
  const keep = () => { const [field, step] = at.split(":"); return call(view.key, `/api/v1/cohorts/${encodeURIComponent(name)}`, { method: "PUT", body: JSON.stringify({ funnel, [field]: Number(step) }) }).then((answer) => setState({ answer }), (problem) => setState({ problem })); };
  return html`<${Section} title="Keep these people" lead="As a cohort that every page can be narrowed to.">
    <form class="builder" onSubmit=${(event) => { event.preventDefault(); keep(); }}>
      <label><span>Cohort</span><input value=${name} placeholder="gave-up-at-payment" onInput=${(event) => { setName(event.target.value.trim()); setState({}); }} /></label>
      <${Choice} label="of people" value=${at} options=${options} onChange=${setAt} />
      <button class="primary" disabled=${!name}>Keep</button>
      <span role="status">${state.answer && `${count(state.answer.members)} people, version ${state.answer.version}.`}${state.problem && html`<${Problem} problem=${state.problem} />`}</span>
    </form><//>`;
}

const bare = (label) => label.replace(/^step:/, "");
const points = (value) => value == null ? "–" : `${value > 0 ? "+" : ""}${(value * 100).toFixed(1)} pp`;

const Steps = ({ steps, who }) => steps.map((step, index) => {
  const all = Math.max(1, steps[0].count);
  const next = steps[index + 1];
  const width = (people) => `width:${(people / all) * 100}%`;
  return html`<div class="step">
    <div><b>${bare(step.label)}</b><small>${index > 0 ? `${percent(step.rate_from_previous)} of the step before` : "everybody who entered"}</small></div>
    <div class="column" role="img" aria-label=${`${step.count} of ${steps[0].count}`}><i style=${width(next ? step.count - step.lost - step.open : step.count)}></i><i class="open" style=${width(step.open)}></i><i class="lost" style=${width(step.lost)}></i></div>
    <div>${count(step.count)} ${who} <small>${next ? `${count(step.lost)} lost (${percent(step.lost / Math.max(1, step.count))}), ${count(step.open)} open` : `${percent(step.rate_from_first)} of all`}</small></div>
    ${step.time_from_previous_ms && html`<details class="times"><summary>${duration(step.time_from_previous_ms.p50)} from the step before <small>p50, p90 ${duration(step.time_from_previous_ms.p90)}</small></summary><${Histogram} buckets=${step.times_histogram ?? []} /></details>`}
  </div>`;
});

/// Saves a question under a name.
function Save({ view, question, disabled }) {
  const [name, setName] = useState("");
  const [state, setState] = useState({});
  const save = () => call(view.key, `/api/v1/saved/${encodeURIComponent(name)}`, { method: "PUT", body: JSON.stringify(question) })
    .then((answer) => setState({ answer }), (problem) => setState({ problem }));
  return html`<div class="save"><label><span>Save as</span><input value=${name} placeholder="checkout-week" onInput=${(event) => { setName(event.target.value.trim()); setState({}); }} /></label>
    <button type="button" class="primary" disabled=${disabled || !name} onClick=${save}>Save</button>
    <span role="status">${state.answer && `Saved, version ${state.answer.version}.`}${state.problem && html`<${Problem} problem=${state.problem} />`}</span></div>`;
}

/// What the project keeps: questions to ask again, and groups of people to ask about.
function Saved({ view }) {
  const [changed, setChanged] = useState(0);
  const saved = useCall(view.key, "/api/v1/saved", {}, [view.key, changed]);
  const cohorts = useCall(view.key, "/api/v1/cohorts", {}, [view.key, changed]);
  const [shown, show] = useState(null);
  const answer = useCall(view.key, shown && `/api/v1/saved/${encodeURIComponent(shown)}/answer`, {}, [view.key, shown]);
  const remove = (path) => confirm("Delete it for good?") && call(view.key, path, { method: "DELETE" }).finally(() => setChanged(changed + 1));
  return html`
    <${Section} title="Saved questions" lead="Each version is kept; an answer can be asked again as it was known at an instant (as_of).">
      ${saved.problem && html`<${Problem} problem=${saved.problem} />`}
      ${!saved.answer && !saved.problem && html`<div class="empty" aria-busy="true">Asking …</div>`}
      ${saved.answer?.saved.length === 0 && html`<div class="empty">Nothing is saved yet. Save a funnel on its page, or any question with <code>gemba query NAME --save NAME</code>.</div>`}
      ${saved.answer?.saved.length > 0 && html`<${Table} rows=${saved.answer.saved} columns=${[
        ["Name", (row) => row.funnel ? html`<a href=${`#funnel&saved=${encodeURIComponent(row.name)}`}>${row.name}</a>` : row.name, "name"],
        ["Question", (row) => row.title ?? row.query ?? row.funnel.steps.map((step) => bare(step.event ?? "any event")).join(" → ")], ["Version", (row) => row.version, "number"],
        ["Saved", (row) => new Date(row.at).toLocaleString()],
        ["", (row) => html`<button onClick=${() => show(row.name)}>Ask</button> <button aria-label=${`Delete ${row.name}`} onClick=${() => remove(`/api/v1/saved/${encodeURIComponent(row.name)}`)}>Delete</button>`],
      ]} />`}
    <//>
    ${shown && html`<${Section} title=${`Answer of ${shown}`}>
      ${answer.problem && html`<${Problem} problem=${answer.problem} />`}
      ${!answer.answer && !answer.problem && html`<div class="empty" aria-busy="true">Asking …</div>`}
      ${answer.answer?.steps && html`<${Steps} steps=${answer.answer.steps} who="units" />`}
      ${answer.answer?.rows && html`<${Table} rows=${objects(answer.answer).slice(0, 100)} columns=${answer.answer.columns.map((column) => [column.name, (row) => cell(row[column.name]), typeof answer.answer.rows[0]?.[0] === "number" ? "number" : ""])} />`}
      ${answer.answer?.over_time?.length > 0 && html`<${OverTime} periods=${answer.answer.over_time} who="units" />`}
      ${answer.answer && html`<p class="lead">As of ${answer.answer.as_of}. <button type="button" onClick=${() => download(view.key, shown)}>Download as CSV</button></p>`}
    <//>`}
    <${Section} title="Cohorts" lead="Groups of people, chosen once, that other pages can be narrowed to. Made from ids, from what people did, or from those lost at a funnel's step.">
      ${cohorts.problem && html`<${Problem} problem=${cohorts.problem} />`}
      ${cohorts.answer?.cohorts.length === 0 && html`<div class="empty">There is no cohort yet. Make one below, or with <code>gemba cohort put NAME</code>.</div>`}
      ${cohorts.answer?.cohorts.length > 0 && html`<${Table} rows=${cohorts.answer.cohorts} columns=${[
        ["Name", (row) => row.name, "name"], ["People", (row) => count(row.members), "number"], ["Version", (row) => row.version, "number"], ["Chosen", (row) => new Date(row.at).toLocaleString()],
        ["By", (row) => html`<code>${JSON.stringify(row.chosen_by)}</code>`], ["", (row) => html`<button aria-label=${`Delete ${row.name}`} onClick=${() => remove(`/api/v1/cohorts/${encodeURIComponent(row.name)}`)}>Delete</button>`],
      ]} />`}
      <${NewCohort} view=${view} onMade=${() => setChanged(changed + 1)} />
    <//>
    <${Trust} states=${[answer]} />`;
}

/// The answer of a saved question as a file.
const download = (key, name) => fetch(`/api/v1/saved/${encodeURIComponent(name)}/answer?format=csv`, { headers: { authorization: `Bearer ${key}` } })
  .then(async (response) => { if (!response.ok) throw new ApiProblem(response.status, await response.json().catch(() => null)); return response.blob(); })
  .then((blob) => { const link = document.createElement("a"); link.href = URL.createObjectURL(blob); link.download = `${name}.csv`; link.click(); URL.revokeObjectURL(link.href); }, (problem) => alert(problem.message));

const cell = (value) => value == null ? "–" : Array.isArray(value) ? value.join(", ") : typeof value === "number" && !Number.isInteger(value) ? value.toFixed(3) : `${value}`;

function NewCohort({ view, onMade }) {
  const usage = useQuery(view, "feature_usage");
  const [asked, setAsked] = useState({ name: "", event: "", least: "1" });
  const [problem, setProblem] = useState(null);
  const make = () => call(view.key, `/api/v1/cohorts/${encodeURIComponent(asked.name)}`, {
    method: "PUT", body: JSON.stringify({ did: { event: asked.event, at_least: Number(asked.least), from: view.from, to: view.to } }),
  }).then(() => { setProblem(null); onMade(); }, setProblem);
  return html`<form class="builder" onSubmit=${(event) => { event.preventDefault(); make(); }}>
    <label><span>New cohort</span><input value=${asked.name} placeholder="regulars" onInput=${(event) => setAsked({ ...asked, name: event.target.value.trim() })} /></label>
    <label><span>of people who did</span><input list="done" value=${asked.event} onInput=${(event) => setAsked({ ...asked, event: event.target.value.trim() })} /></label>
    <datalist id="done">${usage.answer && objects(usage.answer).map((row) => html`<option value=${row.feature}></option>`)}</datalist>
    <label><span>at least so often</span><input type="number" min="1" value=${asked.least} onInput=${(event) => setAsked({ ...asked, least: event.target.value })} /></label>
    <button class="primary" disabled=${!asked.name || !asked.event}>Choose in this range</button>
    ${problem && html`<${Problem} problem=${problem} />`}
  </form>`;
}

/// One query: how it developed, and where its time is spent.
function QueryDetail({ view, fingerprint }) {
  const time = useQuery(view, "query_over_time", { fingerprint, period: Date.parse(view.to) - Date.parse(view.from) <= 2 * DAY_MS ? "hour" : "day" });
  const detail = useQuery(view, "query_detail", { fingerprint });
  const latency = useQuery(view, "query_latency", { fingerprint });
  const slow = useQuery(view, "slow_queries", { limit: "10000" });
  const known = slow.answer && objects(slow.answer).find((row) => row.fingerprint === fingerprint);
  const titles = { release: "Releases", feature: "Features", route: "Routes", code: "Code lines", error: "Errors" };
  return html`
    <${Section} title=${known?.summary || `Query ${fingerprint}`}>
      <p class="lead"><a href="#queries">← all queries</a></p>
      ${known && html`<pre>${known.text}</pre><${Evidence} items=${[["calls", short(known.calls)], ["time in all", duration(known.duration_ms_total)], ["p50", duration(known.duration_ms_p50)], ["p95", duration(known.duration_ms_p95)], ["p99", duration(known.duration_ms_p99)], ["people waiting", count(known.users)]]} />`}
    <//>
    <${Answered} state=${time} empty="It did not run in this range.">${(rows) => html`<div class="pair">
      <${Section} title="Median time, ms" lead="± 1.1 %, by period."><${Chart} times=${rows.map((row) => Date.parse(row.period) / 1000)} values=${rows.map((row) => row.duration_ms_p50)} label="median in ms" /><//>
      <${Section} title="95th percentile, ms" lead="± 1.1 %, by period."><${Chart} times=${rows.map((row) => Date.parse(row.period) / 1000)} values=${rows.map((row) => row.duration_ms_p95)} label="95th percentile in ms" /><//>
      <${Section} title="Calls" lead="By period."><${Chart} times=${rows.map((row) => Date.parse(row.period) / 1000)} values=${rows.map((row) => row.calls)} label="calls" /><//>
    </div>`}<//>
    <${Answered} state=${latency}>${(rows) => rows.length > 0 && html`<${Section} id="latency" title="How long calls take" lead=${`Calls by duration, each doubling as wide. ${toldTo(rows)}`}><${Latency} rows=${rows} /><//>`}<//>
    <${Answered} state=${detail}>${(rows) => html`<div class="pair">${Object.entries(titles).map(([part, title]) => {
      const parts = rows.filter((row) => row.part === part && (row.value !== "" || part !== "error"));
      return parts.length > 0 && html`<${Section} title=${title}><${Table} rows=${parts} columns=${[
        ["", (row) => row.value || html`<i>not known</i>`, "name"], ["Calls", (row) => short(row.calls), "number"],
        ["Time", (row) => html`${duration(row.duration_ms_total)}<${Bar} share=${row.share} bad />`, "number"], ["Average", (row) => duration(row.duration_ms_avg), "number"],
      ]} /><//>`;
    })}</div>`}<//>
    <${Trust} states=${[time, latency, detail, slow]} />`;
}

function Queries({ view }) {
  const opened = place().query;
  return opened ? html`<${QueryDetail} key=${opened} view=${view} fingerprint=${opened} />` : html`<${AllQueries} view=${view} />`;
}

function AllQueries({ view }) {
  const slow = useQuery(view, "slow_queries");
  const regressions = useQuery(view, "query_regressions");
  return html`
    <${Section} title="Hot queries" lead="All database queries, counted one by one, ranked by the time spent in them.">
      <${Answered} state=${slow} empty="No query was run in this range.">${(rows) => {
        const most = Math.max(1, ...rows.map((row) => row.duration_ms_total));
        return html`<${Table} rows=${rows} columns=${[
          ["Query", (row) => html`<a href=${`#queries&query=${row.fingerprint}`}><b>${row.summary || row.fingerprint}</b></a><br /><code>${row.text}</code>`],
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
  const [at, setAt] = useState(place);
  const page = at.page;
  const [cohort, setCohort] = useState("");
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
    const turn = () => { const given = keyFromAddress(); if (given) add(given); setAt(place()); };
    turn();
    addEventListener("hashchange", turn);
    return () => removeEventListener("hashchange", turn);
  }, []);

  useEffect(() => { document.title = `${PAGES.find(([name]) => name === page)?.[1] ?? "Gemba"} · Gemba`; }, [page]);
  const cohorts = useCohorts(project && keys[project], `${project}-${page}-${now}`);

  if (opening) return html`<main><div class="empty" aria-busy="true">Opening …</div></main>`;
  if (!project || adding) return html`<${SignIn} onKey=${add} problem=${problem} />`;
  const view = {
    key: keys[project], from: new Date(now - Number(range) * DAY_MS).toISOString(), to: new Date(now).toISOString(),
    tz: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC", cohort: cohorts.some((each) => each.name === cohort) ? cohort : "",
  };
  const Page = { overview: Overview, people: People, features: Features, funnel: Funnel, queries: Queries, targets: Targets, saved: Saved }[page] ?? Overview;
  return html`
    <a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); document.getElementById("content").focus(); }}>Skip to the figures</a>
    <header>
      <span class="brand">Gemba</span>
      <nav aria-label="Pages">${PAGES.map(([name, title]) => html`<a href=${`#${name}`} aria-current=${page === name ? "page" : null}>${title}</a>`)}</nav>
      <select aria-label="Project" value=${project} onChange=${(event) => event.target.value === "" ? setAdding(true) : setProject(event.target.value)}>
        ${Object.keys(keys).map((name) => html`<option value=${name}>${name}</option>`)}<option value="">another …</option>
      </select>
      <select aria-label="Time range" value=${range} onChange=${(event) => { setRange(event.target.value); setNow(Date.now()); }}>
        ${RANGES.map(([days, title]) => html`<option value=${days}>${title}</option>`)}
      </select>
      ${cohorts.length > 0 && html`<select aria-label="People" value=${view.cohort} onChange=${(event) => setCohort(event.target.value)}>
        <option value="">everybody</option>${cohorts.map((each) => html`<option value=${each.name}>${each.name}</option>`)}
      </select>`}
      <button onClick=${() => setNow(Date.now())} title="Ask again" aria-label="Ask again">↻</button>
    </header>
    <main id="content" tabindex="-1"><h1 class="unseen">${PAGES.find(([name]) => name === page)?.[1] ?? "Overview"}</h1><${Page} key=${`${project}-${page}-${at.query ?? ""}-${at.saved ?? ""}`} view=${view} /></main>`;
}

render(html`<${App} />`, document.getElementById("app"));
