// The page at /docs: draws what /openapi.json says, and sends rows to /predict. It needs nothing from elsewhere.

const LISTED = 40; // levels of a feature beyond these are typed, not chosen
const CHIPS = 12;
const FACTS = { test_accuracy: "Test accuracy", test_f1: "Test F1", test_roc_auc: "Test ROC AUC" };
const WARNINGS = {
  missing: "missing, so it was imputed",
  unseen_category: "a level that training did not see",
  out_of_range: "outside of what training saw",
};

let key = "";
let fields = [];

const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// Text with `code` in it.
const prose = (text) => text.split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

const pretty = (value) => JSON.stringify(value, null, 2);
const number = (value) => Number(value).toLocaleString("en", { maximumSignificantDigits: 5, useGrouping: false });

async function ask(path, options = {}) {
  const headers = { ...(options.headers ?? {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  return fetch(path, { ...options, headers, cache: "no-store" });
}

// Start

async function load() {
  byId("trouble").hidden = true;
  let reply;
  try {
    reply = await ask("/openapi.json");
  } catch {
    return complain("The server does not answer.");
  }
  byId("key-form").hidden = reply.status !== 401 && reply.status !== 403;
  if (reply.status === 401 && !key) return byId("key").focus();
  if (!reply.ok) return complain((await reply.json()).detail);
  draw(await reply.json());
  await Promise.all([showState(), showFacts()]);
}

function complain(text) {
  byId("trouble").textContent = text;
  byId("trouble").hidden = false;
}

function draw(api) {
  const row = api.components.schemas.Row;
  const properties = Object.entries(row.properties ?? {});
  fields = properties.filter(([, schema]) => !schema["x-ignored"]).map(([name, schema]) => ({ name, schema }));
  document.title = `${api.info.title} – API`;
  byId("model-name").textContent = api.info.title;
  byId("model-version").textContent = `version ${api.info.version}`;
  byId("model-version").hidden = !fields.length;
  for (const id of ["try", "fields"]) byId(id).hidden = !fields.length;
  for (const id of ["routes", "sections"]) byId(id).hidden = false;
  byId("inputs").replaceChildren(...fields.map(inputFor));
  byId("field-rows").replaceChildren(...fields.map(fieldRow));
  showIgnored(properties.filter(([, schema]) => schema["x-ignored"]).map(([name]) => name));
  byId("route-groups").replaceChildren(...routeGroups(api));
  greet();
  showCurl();
}

async function showState() {
  const reply = await ask("/ready");
  const state = byId("state");
  state.textContent = reply.ok ? "in service" : "not ready";
  state.className = `state ${reply.ok ? "good" : "bad"}`;
  if (!reply.ok) complain((await reply.json()).detail);
}

async function showFacts() {
  const reply = await ask("/model_info");
  if (!reply.ok) return;
  const info = await reply.json();
  const facts = [["Algorithm", info.model_name.replaceAll("_", " ")]];
  if (info.created_at) facts.push(["Trained", new Date(info.created_at).toLocaleDateString("en", { dateStyle: "medium" })]);
  facts.push(["Classes", info.classes.length > 4 ? info.classes.length : info.classes.join(" / ")]);
  for (const [name, shown] of Object.entries(FACTS)) {
    if (typeof info.metrics[name] === "number") facts.push([shown, info.metrics[name].toFixed(3)]);
  }
  byId("facts").replaceChildren(...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
  byId("facts").hidden = false;
}

// The form

function isNullable(schema) {
  return Array.isArray(schema.type) && schema.type.includes("null");
}

function inputFor(field, index) {
  const id = `field-${index}`;
  field.control = controlFor(field, id);
  field.hint = make("div", { class: "hint", id: `${id}-hint` }, hintOf(field));
  field.control.setAttribute("aria-describedby", `${id}-hint`);
  field.box = make("div", { class: "field" }, make("label", { for: id }, field.name), field.control, field.hint);
  if (field.list) field.box.append(field.list);
  field.control.addEventListener("input", () => {
    judge(field);
    showCurl();
  });
  return field.box;
}

function controlFor(field, id) {
  const { schema } = field;
  const kind = schema["x-kind"];
  const levels = kind === "boolean" ? [true, false] : (schema["x-categories"] ?? []);
  const start = schema.examples[0];
  if (levels.length && levels.length <= LISTED) {
    field.choices = isNullable(schema) ? [...levels, null] : levels;
    const options = field.choices.map((level) =>
      make("option", { value: JSON.stringify(level), selected: level === start }, level === null ? "null" : String(level)));
    return make("select", { id, class: "control" }, ...options);
  }
  const attributes = { id, class: "control", value: String(start), autocomplete: "off", spellcheck: "false" };
  if (kind === "numeric") attributes.inputmode = "decimal";
  if (isNullable(schema)) attributes.placeholder = "null";
  if (levels.length) {
    attributes.list = `${id}-levels`;
    field.list = make("datalist", { id: attributes.list }, ...levels.map((level) => make("option", { value: String(level) })));
  }
  return make("input", attributes);
}

function hintOf({ schema }) {
  const range = schema["x-trained-range"];
  if (range) return `${number(range[0])} to ${number(range[1])}${schema["x-integer"] ? ", whole" : ""}`;
  const levels = schema["x-categories"];
  if (levels) return schema["x-levels"] === 1 ? "1 level" : `${schema["x-levels"]} levels`;
  return { boolean: "true or false", datetime: "ISO 8601", numeric: "a number" }[schema["x-kind"]];
}

function valueOf(field) {
  if (field.choices) return JSON.parse(field.control.value);
  const text = field.control.value.trim();
  if (text === "") return null;
  const isNumber = field.schema.type.includes("number") || field.schema.type.includes("integer");
  return isNumber && Number.isFinite(Number(text)) ? Number(text) : text;
}

const rowOf = () => Object.fromEntries(fields.map((field) => [field.name, valueOf(field)]));

function mark(field, level, text) {
  field.box.className = level ? `field ${level}` : "field";
  field.hint.textContent = text ?? hintOf(field);
}

function judge(field) {
  const { schema } = field;
  const value = valueOf(field);
  const [low, high] = schema["x-trained-range"] ?? [-Infinity, Infinity];
  const levels = schema["x-categories"];
  if (value === null) return isNullable(schema) ? mark(field, "warn", "sent as null: imputed") : mark(field, "bad", "may not be null");
  if (typeof value === "number" && (value < low || value > high)) return mark(field, "warn", `outside ${number(low)} to ${number(high)}`);
  if (levels && levels.length < schema["x-levels"]) return mark(field); // the list is cut: the server knows
  if (levels && !levels.includes(value)) return mark(field, "warn", "not seen in training");
  return mark(field);
}

function showCurl() {
  byId("curl").textContent = curl("post", "/predict", rowOf());
}

function curl(method, path, body) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [`curl ${location.origin}${path}`];
  if (key) parts.push(`-H "Authorization: Bearer $KEY"`);
  if (method === "post") parts.push("-H 'Content-Type: application/json'", `-d ${quoted(pretty(body))}`);
  return parts.join(" \\\n  ");
}

function greet() {
  byId("reply").replaceChildren(make("p", { class: "empty" }, "The answer will be here."));
}

async function predict(event) {
  event.preventDefault();
  const button = event.submitter ?? byId("try-form").querySelector("[type=submit]");
  button.disabled = true;
  const started = performance.now();
  try {
    const reply = await ask("/predict", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(rowOf()),
    });
    const answer = await reply.json();
    const milliseconds = performance.now() - started;
    fields.forEach(judge);
    byId("reply").replaceChildren(...(reply.ok ? answered(answer, milliseconds) : refused(answer)), raw(answer));
  } catch {
    byId("reply").replaceChildren(make("p", { class: "refusal" }, "The server does not answer."));
  } finally {
    button.disabled = false;
  }
}

function answered(answer, milliseconds) {
  const took = `${milliseconds < 10 ? milliseconds.toFixed(1) : Math.round(milliseconds)} ms, version ${answer.model_version}`;
  const head = make("div", { class: "answer" }, make("strong", {}, String(answer.prediction[0])), make("span", {}, took));
  const notes = (answer.warnings ?? []).map((warning) => make("li", {}, `${warning.field}: ${WARNINGS[warning.code] ?? warning.code}`));
  return [head, bars(answer), notes.length ? make("ul", { class: "notes" }, ...notes) : null].filter(Boolean);
}

function bars(answer) {
  const shares = answer.probability[0];
  const order = answer.classes.map((_, index) => index).sort((a, b) => (answer.classes.length > 2 ? shares[b] - shares[a] : a - b));
  const parts = order.slice(0, 8).flatMap((index) => {
    const fill = make("div", { class: answer.classes[index] === answer.prediction[0] ? "fill top" : "fill" });
    fill.style.width = `${shares[index] * 100}%`;
    const share = `${(shares[index] * 100).toFixed(1)} %`;
    return [make("span", {}, String(answer.classes[index])), make("div", { class: "track" }, fill), make("span", { class: "share" }, share)];
  });
  return make("div", { class: "bars" }, ...parts);
}

function refused(problem) {
  const faults = (problem.errors ?? []).map((fault) => make("li", {}, `${fault.path}: ${fault.rule}, got ${fault.got}`));
  for (const field of fields) {
    const fault = (problem.errors ?? []).find(({ path }) => path === `$.${field.name}` || path === `$[${JSON.stringify(field.name)}]`);
    if (fault) mark(field, "bad", fault.rule);
  }
  const head = make("p", { class: "refusal" }, `${problem.status}: ${problem.detail}`);
  return [head, faults.length ? make("ul", { class: "notes bad" }, ...faults) : null].filter(Boolean);
}

const raw = (answer) => make("details", { class: "raw" }, make("summary", {}, "The whole reply"), make("pre", {}, pretty(answer)));

// Fields

function fieldRow({ name, schema }) {
  return make("tr", {},
    make("td", {}, name),
    make("td", {}, make("span", { class: "kind" }, schema["x-kind"])),
    make("td", {}, seen(schema)),
    make("td", { class: "quiet" }, isNullable(schema) ? "imputed, warned" : "refused"));
}

function seen(schema) {
  const range = schema["x-trained-range"];
  if (range) return hintOf({ schema });
  const levels = schema["x-categories"];
  if (!levels) return schema["x-kind"] === "datetime" ? "ISO 8601; UTC without an offset" : "true, false";
  const chips = levels.slice(0, CHIPS).map((level) => make("span", { class: "chip" }, String(level)));
  if (levels.length > CHIPS) chips.push(make("span", { class: "chip" }, `… ${schema["x-levels"]} in all`));
  return make("div", { class: "chips" }, ...chips);
}

function showIgnored(names) {
  byId("ignored").hidden = !names.length;
  const codes = names.flatMap((name, index) => [index ? ", " : "", make("code", {}, name)]);
  byId("ignored").replaceChildren("May be sent and is not read: ", ...codes, ".");
  byId("ignored").style.marginTop = "1rem";
}

// Routes

function routeGroups(api) {
  const all = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  return api.tags
    .map((tag) => ({ tag, routes: all.filter(({ operation }) => operation.tags.includes(tag.name)) }))
    .filter(({ routes }) => routes.length)
    .flatMap(({ tag, routes }) => [
      make("h3", {}, tag.name, make("span", {}, tag.description)),
      make("div", { class: "card routes" }, ...routes.map(routeDetails)),
    ]);
}

function routeDetails({ path, method, operation }) {
  const head = make("summary", {},
    make("span", { class: `method ${method}` }, method.toUpperCase()),
    make("span", { class: "path" }, path),
    make("span", { class: "summary" }, operation.summary));
  const inside = make("div", { class: "inside" });
  const details = make("details", {}, head, inside);
  details.addEventListener("toggle", () => inside.childElementCount || inside.append(...routeInside(path, method, operation)), { once: true });
  return details;
}

function routeInside(path, method, operation) {
  const examples = Object.fromEntries((operation.parameters ?? []).map(({ name, example }) => [name, example]));
  const filled = path.replaceAll(/\{(\w+)\}/g, (_, name) => encodeURIComponent(examples[name] ?? name));
  const body = operation.requestBody?.content["application/json"].example;
  const statuses = Object.entries(operation.responses).flatMap(([status, { description }]) => [
    make("dt", { class: status < 300 ? "ok" : "" }, status), make("dd", {}, description)]);
  return [
    operation.description ? make("p", {}, ...prose(operation.description)) : null,
    operation["x-scope"] ? make("p", {}, "Where keys are set, it asks for the scope ", make("code", {}, operation["x-scope"]), ".") : null,
    make("div", {}, make("h4", {}, "curl"), make("pre", {}, curl(method, filled, body))),
    make("div", {}, make("h4", {}, "Replies"), make("dl", { class: "statuses" }, ...statuses)),
  ].filter(Boolean);
}

// Events

byId("try-form").addEventListener("submit", predict);
byId("try-form").addEventListener("reset", () => setTimeout(() => {
  fields.forEach((field) => mark(field));
  greet();
  showCurl();
}));
byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key = byId("key").value.trim();
  load();
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copies]");
  if (!button) return;
  await navigator.clipboard.writeText(byId(button.dataset.copies).textContent);
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

load();
