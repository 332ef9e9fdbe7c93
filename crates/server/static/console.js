// Homefleet console: live values, the two-stage task drawer, the parameter filter.
// No dependency, no build step; every page works as plain HTML until this has loaded.

const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const device = $("#device")?.dataset.device;
const tasksUrl = $("#device")?.dataset.tasks;

// ---- Requests -------------------------------------------------------------------------------

/** Sends JSON to the REST API; the error's message is the server's own. */
async function send(method, url, body) {
  const response = await fetch(url, {
    method,
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  if (response.status === 401) return location.assign("/login");
  if (response.ok) return response.status === 204 ? null : response.json();
  const refused = await response.json().catch(() => null);
  throw new Error(refused?.error?.message ?? `The server answered ${response.status}.`);
}

/** Replaces the inside of `#id` with the server's rendering, keeping what the reader had opened. */
async function reload(id) {
  const box = document.getElementById(id);
  if (!box?.dataset.fragment) return;
  const response = await fetch(box.dataset.fragment, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!response?.ok || response.redirected) return;
  const fresh = document.createElement("div");
  fresh.innerHTML = await response.text();
  // A form being filled in is not drawn again under its writer's hands.
  if ($("form input:focus", box)) return;
  for (const old of $$("details[data-object]", box)) {
    const same = $(`details[data-object="${CSS.escape(old.dataset.object)}"]`, fresh);
    if (same) same.open = old.open;
  }
  for (const old of $$("li[data-task]", box)) {
    const same = $(`li[data-task="${CSS.escape(old.dataset.task)}"]`, fresh);
    if (!same) continue;
    if ($("details", old)?.open) $("details", same).open = true;
    if (same.dataset.state !== old.dataset.state) same.classList.add("flash");
  }
  // A row that changed in between flashes; one that is flashing goes on.
  const before = new Map($$(".param", box).map((row) => [row.dataset.path, [$(".param-value", row).textContent, row.classList.contains("flash")]]));
  for (const row of $$(".param", fresh)) {
    const [value, flashing] = before.get(row.dataset.path) ?? [];
    if (value !== undefined && (flashing || value !== $(".param-value", row).textContent)) row.classList.add("flash");
  }
  const focused = document.activeElement?.closest?.(`#${id} [data-path], #${id} [data-task]`);
  box.replaceChildren(...fresh.childNodes);
  if (id === "parameters") indexParameters();
  if (id === "series") clocks();
  if (focused?.dataset.task) $(`li[data-task="${CSS.escape(focused.dataset.task)}"] summary`, box)?.focus();
  if (focused?.dataset.path) rows.get(focused.dataset.path)?.focus();
  ages();
}

for (const box of $$("[data-every]")) {
  setInterval(() => { if (!document.hidden) reload(box.id); }, Number(box.dataset.every) * 1000);
}

const pending = new Map();
/** Reloads soon, once, however many events ask for it. */
function reloadSoon(id, delay = 250) {
  if (pending.has(id) || !document.getElementById(id)) return;
  pending.set(id, setTimeout(() => { pending.delete(id); reload(id); }, delay));
}

function toast(text) {
  const note = document.createElement("div");
  note.className = "toast";
  note.textContent = text;
  $("#toasts")?.append(note);
  setTimeout(() => note.remove(), 5000);
}

function flash(element) {
  element.classList.remove("flash");
  void element.offsetWidth;
  element.classList.add("flash");
}

document.addEventListener("animationend", (event) => event.target.classList.remove("flash"));

// ---- Ages -----------------------------------------------------------------------------------

function age(seconds) {
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function ages() {
  const now = Date.now();
  for (const time of $$("time[data-age]")) {
    const text = age(Math.max(0, (now - Date.parse(time.dateTime)) / 1000));
    if (time.textContent !== text) time.textContent = text;
  }
}
setInterval(ages, 1000);

/** Times along a plot, which the server writes in UTC, as the reader's own. */
function clocks() {
  for (const label of $$("[data-clock]")) {
    const text = label.textContent;
    const time = new Date(label.dataset.clock);
    const two = (number) => String(number).padStart(2, "0");
    const parts = text.includes("-") ? null : [time.getHours(), time.getMinutes(), ...(text.length > 5 ? [time.getSeconds()] : [])];
    if (parts) label.textContent = parts.map(two).join(":");
  }
}
clocks();

// ---- Parameters -----------------------------------------------------------------------------

let rows = new Map();

function indexParameters() {
  rows = new Map($$("#parameters .param").map((row) => [row.dataset.path, row]));
  const count = $("#parameter-count");
  if (count) count.textContent = rows.size;
  const known = $("#known-paths");
  if (known) {
    known.replaceChildren(...[...rows.keys()].slice(0, 800).map((path) => {
      const option = document.createElement("option");
      option.value = path;
      return option;
    }));
  }
  filter();
}

/** What can be done with a value; made when a row is first pointed at or reached by the keyboard. */
function offer(row) {
  if (!row || "readonly" in document.body.dataset || $(".acts", row)) return;
  const acts = document.createElement("span");
  acts.className = "acts";
  const act = (text, key, title) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "act";
    button.textContent = text;
    button.title = title;
    button.dataset[key] = row.dataset.path;
    acts.append(button);
  };
  act("Set", "stageSet", `Stage a new value for ${row.dataset.path}`);
  act("Read", "refresh", `Read ${row.dataset.path} from the device now`);
  act("Watch", "watch", `Stage a subscription to changes of ${row.dataset.path}`);
  row.append(acts);
  $(".param-name", row).title = row.dataset.path;
  $("time", row).title = `Read ${$("time", row).dateTime}`;
}
for (const kind of ["pointerover", "focusin"]) {
  $("#parameters")?.addEventListener(kind, (event) => offer(event.target.closest(".param")));
}

function filter() {
  const field = $("#filter");
  if (!field) return;
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const [path, row] of rows) {
    const text = `${path} ${$(".param-value", row).textContent}`.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  for (const node of $$("#parameters .node").reverse()) {
    const shown = $$(".param", node).some((row) => !row.hidden);
    node.hidden = words.length > 0 && !shown;
    if (words.length > 0) {
      node.dataset.wasOpen ??= node.open ? "1" : "0";
      node.open = shown;
    } else if (node.dataset.wasOpen) {
      node.open = node.dataset.wasOpen === "1";
      delete node.dataset.wasOpen;
    }
  }
}

function showValue(path, value, seen) {
  const row = rows.get(path);
  if (!row) return reloadSoon("parameters", 600);
  const cell = $(".param-value", row);
  const time = $("time", row);
  if (seen) { time.dateTime = seen; time.textContent = "now"; }
  if (cell.textContent === value) return;
  cell.textContent = value;
  cell.classList.toggle("void", value === "");
  flash(row);
}

// ---- Live events ----------------------------------------------------------------------------

function listen() {
  const live = $("#live");
  if (!live) return;
  const source = new EventSource(device ? `/api/v1/events?device=${encodeURIComponent(device)}` : "/api/v1/events");
  const state = (name, text) => { live.dataset.state = name; live.textContent = text; };
  let lost = false;
  source.onopen = () => {
    state("live", "live");
    if (lost) for (const id of ["devices", "homes", "home", "summary", "parameters", "tasks", "subscriptions", "all-tasks"]) reloadSoon(id, 0);
    lost = false;
  };
  source.onerror = () => { lost = true; state("lost", "reconnecting"); };
  const on = (kind, handler) => source.addEventListener(kind, (event) => {
    const data = JSON.parse(event.data);
    handler(data);
  });
  on("device", (data) => { reloadSoon("devices"); reloadSoon("summary", 800); reloadSoon("homes", 800); reloadSoon("home", 800); flashDevice(data.device.id); });
  on("association", (data) => {
    reloadSoon("homes");
    reloadSoon("home");
    if (data.association.device === device) reloadSoon("summary", 300);
    flashDevice(data.association.device);
  });
  on("task", (data) => {
    reloadSoon("tasks", 120);
    reloadSoon("all-tasks", 120);
    reloadSoon("devices");
    reloadSoon("home", 400);
    // Values that were read again and did not change have a new age all the same.
    if (data.task.state === "done") reloadSoon("parameters", 400);
  });
  on("parameter", (data) => {
    if (!device) return;
    showValue(data.path, data.value, data.seen);
    if (data.path.startsWith("Device.LocalAgent.Subscription.")) reloadSoon("subscriptions", 600);
    if (/^Device\.DeviceInfo\.[A-Za-z]+$/.test(data.path)) reloadSoon("summary", 800);
  });
  on("notification", (data) => { if (device) notify(data); });
  on("telemetry", (data) => { if ($("#series")?.dataset.series === data.device) reloadSoon("series", 300); });
  on("missed", () => { for (const id of ["devices", "homes", "home", "parameters", "tasks", "all-tasks"]) reloadSoon(id); });
  addEventListener("pagehide", () => source.close());
}

function flashDevice(id) {
  setTimeout(() => { const row = $(`tr[data-device="${CSS.escape(id ?? "")}"]`); if (row) flash(row); }, 400);
}

function notificationWords(says) {
  const pairs = (map) => Object.entries(map ?? {}).map((pair) => pair.join("=")).join(" ");
  switch (says.kind) {
    case "value_change": return ["Value", `${says.path} = ${says.value}`];
    case "event": return ["Event", `${says.object}${says.event} ${pairs(says.params)}`];
    case "object_creation": return ["Created", `${says.path} ${pairs(says.unique_keys)}`];
    case "object_deletion": return ["Deleted", says.path];
    case "on_board_request": return ["Onboarding", `${says.oui} ${says.product_class} ${says.serial_number}`];
    case "operation_complete": return ["Completed", `${says.object}${says.command} ${says.error ? `${says.error.code} ${says.error.message}` : pairs(says.output)}`];
    default: return [says.kind, ""];
  }
}

function notify(data) {
  const feed = $("#notifications");
  if (!feed) return;
  $(".none", feed)?.remove();
  const item = document.createElement("li");
  const time = document.createElement("time");
  time.dateTime = data.time ?? new Date().toISOString();
  time.dataset.age = "";
  const kind = document.createElement("b");
  const [name, words] = notificationWords(data.notification);
  kind.textContent = name;
  const text = document.createElement("span");
  text.className = "mono";
  text.textContent = words;
  item.append(time, kind, text);
  feed.prepend(item);
  while (feed.children.length > 50) feed.lastChild.remove();
  ages();
}

// ---- The drawer: stage, then commit ---------------------------------------------------------

const store = `homefleet.staged.${device}`;
let staged = [];

const labels = { set: "Parameter", get: "Path (object or parameter, wildcards allowed)", operate: "Command", add: "Object", delete: "Object instance" };
const argumentExamples = { operate: "ProtocolVersion=Any\nHost=127.0.0.1\nNumberOfRepetitions=3\nTimeout=1000\nDataBlockSize=64", add: "Enable=true\nID=code\nNotifType=ValueChange\nReferenceList=Device.DeviceInfo.ProvisioningCode" };
const examples = { set: "Device.DeviceInfo.ProvisioningCode", get: "Device.DeviceInfo.", operate: "Device.IP.Diagnostics.IPPing()", add: "Device.LocalAgent.Subscription.", delete: "Device.LocalAgent.Subscription.1." };

function kind() { return $("#stage").elements.kind.value; }

function showKind() {
  const now = kind();
  $("#stage-path-label").textContent = labels[now];
  $("#stage-path").placeholder = examples[now];
  for (const part of $$("#stage [data-for]")) part.hidden = !part.dataset.for.split(" ").includes(now);
  $("#stage-args").placeholder = argumentExamples[now] ?? "";
  $("#stage-args-label").firstChild.textContent = now === "add" ? "Values, one " : "Input arguments, one ";
}

/** Fills the form from a button beside a parameter or an object. */
function prefill(now, path, value = "") {
  const form = $("#stage");
  form.elements.kind.value = now;
  showKind();
  form.elements.path.value = path;
  form.elements.value.value = value;
  const field = now === "set" ? form.elements.value : form.elements.path;
  form.scrollIntoView({ block: "nearest" });
  field.focus();
  field.select?.();
}

function lines(text) {
  const pairs = [];
  for (const line of text.split("\n").map((each) => each.trim()).filter(Boolean)) {
    const cut = line.indexOf("=");
    if (cut < 1) throw new Error(`“${line}” is not of the form Name=value.`);
    pairs.push([line.slice(0, cut).trim(), line.slice(cut + 1)]);
  }
  return pairs;
}

/** The operation of one staged line, as the REST API takes it. */
function operation(item) {
  switch (item.kind) {
    case "get": return { type: "get", paths: [item.path] };
    case "operate": return { type: "operate", command: item.path, args: Object.fromEntries(item.pairs) };
    case "add": return { type: "add", objects: [{ path: item.path, params: item.pairs.map(([name, value]) => ({ name, value, required: true })) }] };
    case "delete": return { type: "delete", paths: [item.path] };
    case "set": {
      const cut = item.path.lastIndexOf(".") + 1;
      return { type: "set", objects: [{ path: item.path.slice(0, cut), params: [{ name: item.path.slice(cut), value: item.value, required: true }] }] };
    }
  }
  throw new Error(`unknown kind ${item.kind}`);
}

/** The first operation of the staged lines and how many lines it covers: neighbouring sets travel as
 *  one Set message, which the device applies as a whole. */
function firstOperation(items) {
  const first = operation(items[0]);
  let lines = 1;
  while (first.type === "set" && items[lines]?.kind === "set") {
    const [object] = operation(items[lines]).objects;
    const same = first.objects.find((known) => known.path === object.path);
    if (same) same.params.push(...object.params); else first.objects.push(object);
    lines += 1;
  }
  return [first, lines];
}

function describe(item) {
  if (item.kind === "set") return `${item.path} = ${item.value === "" ? "(empty)" : item.value}`;
  return item.pairs?.length ? `${item.path} ${item.pairs.map((pair) => pair.join("=")).join(" ")}` : item.path;
}

function showStaged() {
  const list = $("#staged");
  list.replaceChildren(...staged.map((item, index) => {
    const row = document.createElement("li");
    const text = document.createElement("span");
    const what = document.createElement("b");
    what.textContent = item.kind;
    const path = document.createElement("span");
    path.className = "mono";
    path.textContent = describe(item);
    text.append(what, path);
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "act";
    remove.textContent = "Remove";
    remove.setAttribute("aria-label", `Remove: ${item.kind} ${describe(item)}`);
    remove.addEventListener("click", () => { staged.splice(index, 1); keepStaged(); });
    row.append(text, remove);
    return row;
  }));
  $("#commit-row").hidden = staged.length === 0;
  $("#staged-count").hidden = staged.length === 0;
  $("#staged-count").textContent = `${staged.length} staged`;
  $("#commit").textContent = staged.length === 1 ? "Commit 1 change" : `Commit ${staged.length} changes`;
}

function keepStaged() {
  try { sessionStorage.setItem(store, JSON.stringify(staged)); } catch { /* private mode: kept for this page only */ }
  showStaged();
}

function fail(error) {
  const box = $("#stage-error");
  if (!box) return toast(error.message);
  box.textContent = error.message;
  box.hidden = false;
}

function drawer() {
  const form = $("#stage");
  if (!form) return;
  try { staged = JSON.parse(sessionStorage.getItem(store) ?? "[]"); } catch { staged = []; }
  form.addEventListener("change", (event) => { if (event.target.name === "kind") showKind(); });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    $("#stage-error").hidden = true;
    try {
      const item = { kind: kind(), path: form.elements.path.value.trim(), value: form.elements.value.value };
      if (item.kind === "operate" || item.kind === "add") item.pairs = lines(form.elements.args.value);
      if (item.kind === "set" && item.path.endsWith(".")) throw new Error("A Set needs a parameter: the path must not end with a dot.");
      if (item.kind === "operate" && !item.path.endsWith(")")) item.path += "()";
      if ((item.kind === "add" || item.kind === "delete") && !item.path.endsWith(".")) item.path += ".";
      staged.push(item);
      keepStaged();
      form.elements.path.value = form.elements.value.value = form.elements.args.value = "";
      $("#commit").focus();
    } catch (error) { fail(error); }
  });
  $("#discard").addEventListener("click", () => { staged = []; keepStaged(); form.elements.path.focus(); });
  $("#commit").addEventListener("click", async (event) => {
    event.target.disabled = true;
    $("#stage-error").hidden = true;
    try {
      while (staged.length > 0) {
        const [next, lines] = firstOperation(staged);
        await send("POST", tasksUrl, { operation: next });
        // What the server took is no longer staged, should it refuse the next one.
        staged.splice(0, lines);
        keepStaged();
      }
      reloadSoon("tasks", 0);
      form.elements.path.focus();
    } catch (error) { fail(error); } finally { event.target.disabled = false; }
  });
  showKind();
  showStaged();
}

// ---- Buttons inside rendered parts ----------------------------------------------------------

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const data = button.dataset;
  if (button.closest("summary")) event.preventDefault();
  try {
    if (data.copy !== undefined) {
      await navigator.clipboard.writeText(data.copy);
      toast("Endpoint ID copied.");
    } else if (data.wake) {
      await send("POST", tasksUrl, { operation: { type: "wake" }, expires_in: 60 });
      reloadSoon("tasks", 0);
    } else if (data.refresh) {
      button.disabled = true;
      await send("POST", tasksUrl, { operation: { type: "get", paths: [data.refresh] } });
      reloadSoon("tasks", 0);
      setTimeout(() => { button.disabled = false; }, 800);
    } else if (data.check) {
      button.disabled = true;
      await send("POST", data.check, {});
      toast("The gateway is being asked.");
    } else if (data.stageSet) {
      prefill("set", data.stageSet, $(".param-value", rows.get(data.stageSet))?.textContent ?? "");
    } else if (data.stageAdd) {
      prefill("add", data.stageAdd);
    } else if (data.stageDelete) {
      staged.push({ kind: "delete", path: data.stageDelete, value: "" });
      keepStaged();
      $("#commit").focus();
    } else if (data.watch) {
      const pairs = [["Enable", "true"], ["ID", `console-${Date.now().toString(36)}`], ["NotifType", "ValueChange"], ["ReferenceList", data.watch]];
      staged.push({ kind: "add", path: "Device.LocalAgent.Subscription.", value: "", pairs });
      keepStaged();
      $("#commit").focus();
    } else if (data.cancel) {
      await send("DELETE", `/api/v1/tasks/${encodeURIComponent(data.cancel)}`);
      reloadSoon("tasks", 0);
      reloadSoon("all-tasks", 0);
    }
  } catch (error) {
    button.disabled = false;
    toast(error.message);
  }
});

document.addEventListener("submit", async (event) => {
  if (event.target.id !== "rename") return;
  event.preventDefault();
  const label = event.target.elements.label;
  label.blur();
  try {
    await send("PATCH", event.target.dataset.api, { label: label.value.trim() });
    await reload("summary");
  } catch (error) { toast(error.message); }
});

document.addEventListener("toggle", (event) => {
  if (event.target.matches?.(".rename[open]")) $("input", event.target).select();
}, true);

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName)) return;
  const field = $("[data-hotkey='/']");
  if (field) { event.preventDefault(); field.focus(); field.select(); }
});

$("#filter")?.addEventListener("input", filter);
indexParameters();
drawer();
ages();
listen();

// ---- Certificates ---------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-decide], [data-revoke]");
  if (!button) return;
  const { decide, approve, revoke, name } = button.dataset;
  if (revoke && !confirm(`Revoke the certificate of ${name}? The device loses its access.`)) return;
  button.disabled = true;
  try {
    if (decide) {
      await send("POST", `/api/v1/approvals/${encodeURIComponent(decide)}`, { approve: approve === "yes" });
      toast(approve === "yes" ? "Approved: the device gets its certificate when it asks again." : "Denied.");
      await reload("approvals");
    } else {
      await send("POST", `/api/v1/certificates/${encodeURIComponent(revoke)}/revoke`, { reason: "unspecified" });
      toast(`The certificate of ${name} is revoked.`);
      await reload("certificates");
    }
  } catch (error) {
    toast(error.message);
    button.disabled = false;
  }
});
