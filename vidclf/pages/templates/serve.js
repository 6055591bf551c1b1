"use strict";
// The page of the server: send a video, follow its events, show its result. Text from a video or a file name is
// inserted as text, never as markup.

const $ = (id) => document.getElementById(id);
const maxBytes = Number(document.body.dataset.maxBytes);
const classes = JSON.parse(document.body.dataset.classes);
const RECENT = "vidclf.recent", MOST_RECENT = 12, SENT_SHARE = 30;

const STEPS = ["uploading", "queued", "fetching", "decoding", "classifying"];
const TITLES = {
  too_large: "Too large", not_a_video: "Not a video", unsupported_codec: "Codec not supported", unsupported_container: "Format not supported", encrypted: "Encrypted", empty_file: "Empty file", truncated: "Incomplete",
  decode_error: "Damaged", decode_timeout: "Took too long", fetch_timeout: "Took too long", queue_full: "Busy", loading: "Not ready yet",
  uri_not_allowed: "URI not allowed", cancelled: "Cancelled", unknown_job: "Result no longer available", no_connection: "No connection",
};
const PARTS = {
  confidence: ["Confidence", "calibrated probability of the class"],
  margin: ["Lead over the second class", "small if two classes are close"],
  certainty: ["Concentration", "low if the probability is spread over many classes"],
  member_agreement: ["Agreement of the members", "low if the members of the ensemble give different probabilities"],
  view_agreement: ["Agreement of the views", "low if the video is classified differently backwards, faster or slower"],
  frame_agreement: ["Agreement of single frames", "low if single frames look like another class"],
  closeness: ["Closeness to the training data", "low if the video differs from the training videos of every class"],
};
// What supports the threshold of the trust score.
const BASES = {
  certified: "Validation certifies the threshold with 90 % confidence, for videos of sources like those of validation.",
  estimated: "Validation supports the threshold only by an estimate, which promises nothing.",
  none: "Validation does not support the threshold: the server accepts videos without support.",
};
const QUALITY = {
  all_black: "every sampled frame is black", some_black: "some sampled frames are black", blurry: "blurry", mostly_repeated: "most frames repeat the previous one",
};

function h(name, attributes = {}, ...children) {
  const [tag, space] = name.startsWith("svg:") ? [name.slice(4), "http://www.w3.org/2000/svg"] : [name, "http://www.w3.org/1999/xhtml"];
  const element = document.createElementNS(space, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("--")) element.style.setProperty(key, value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;
const bytes = (count) => {
  const [size, unit] = count >= 1e9 ? [count / 1e9, "GB"] : count >= 1e6 ? [count / 1e6, "MB"] : [Math.ceil(count / 1e3), "kB"];
  return `${Number(size.toFixed(1))} ${unit}`;
};
const plain = (value) => value.toFixed(2).replace("-", "−");
const tone = (label) => `t${classes.indexOf(label) % 8}`;

function clock(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds), rest = String(whole % 60).padStart(2, "0"), minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

// One video at a time. `current` numbers them, so that late messages about an earlier one are dropped.
let current = 0, source = null, sending = null;
// What the Cancel button does; null while nothing can be cancelled.
let cancel = null;

function cancellable(action) {
  cancel = action;
  $("cancel").hidden = action === null;
  $("cancel").disabled = false;
}

function begin(name, hasUpload) {
  current += 1;
  if (source) source.close();
  if (sending) sending.abort();
  source = sending = null;
  cancellable(null);
  $("error").hidden = $("result").hidden = true;
  $("progress").hidden = false;
  $("progress-name").textContent = name;
  for (const step of $("steps").children) {
    step.hidden = step.dataset.step === (hasUpload ? "fetching" : "uploading");
  }
  show(hasUpload ? "uploading" : "queued", 0, null, null);
  $("progress").scrollIntoView({ block: "nearest" });
  return current;
}

function show(stage, value, eta, position) {
  const at = STEPS.indexOf(stage);
  $("bar").value = value;
  let waits = "";
  if (stage === "queued" && position) waits = position === 1 ? "1 video ahead" : `${position} videos ahead`;
  const left = eta === null || eta === undefined ? "" : `about ${eta < 1 ? "1 s" : clock(Math.round(eta)).replace(".0", "")} left`;
  $("eta").textContent = [waits, left].filter(Boolean).join(", ");
  for (const step of $("steps").children) {
    const place = STEPS.indexOf(step.dataset.step);
    step.className = place < at ? "over" : place === at ? "now" : "";
    if (place === at && $("announcement").dataset.stage !== stage) {
      $("announcement").textContent = step.textContent;
      $("announcement").dataset.stage = stage;
    }
  }
}

function fail(error, name) {
  $("progress").hidden = $("result").hidden = true;
  $("error-title").textContent = TITLES[error.reason] || "Failed";
  $("error-text").textContent = error.message;
  $("error-reason").textContent = error.reason;
  $("error-name").textContent = name || "";
  $("error").hidden = false;
  $("error").scrollIntoView({ block: "nearest" });
}

const NO_CONNECTION = { reason: "no_connection", message: "The server did not answer. Is it running, and does it accept files of this size?" };

function sendFile(file) {
  const number = begin(file.name, true);
  if (file.size > maxBytes) return fail({ reason: "too_large", message: `The video is larger than this server accepts: ${bytes(file.size)}, the limit is ${bytes(maxBytes)}.` }, file.name);
  const form = new FormData();
  form.append("file", file);
  sending = new XMLHttpRequest();
  sending.open("POST", "/api/classify");
  sending.upload.onprogress = (event) => {
    if (number === current && event.lengthComputable) show("uploading", (SENT_SHARE * event.loaded) / event.total, null, null);
  };
  sending.onerror = () => number === current && fail(NO_CONNECTION, file.name);
  sending.onload = () => number === current && accepted(number, sending.status, sending.responseText, file.name, SENT_SHARE);
  sending.send(form);
  cancellable(() => {
    sending.abort();
    fail({ reason: "cancelled", message: "The upload was cancelled." }, file.name);
  });
}

async function sendUri(uri) {
  const name = uri.split("?")[0].split("/").pop() || uri;
  const number = begin(name, false);
  try {
    const response = await fetch("/api/classify", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ uri }) });
    const text = await response.text();
    if (number === current) accepted(number, response.status, text, name, 0);
  } catch {
    if (number === current) fail(NO_CONNECTION, name);
  }
}

function accepted(number, status, text, name, from) {
  let answer;
  cancellable(null);
  try { answer = JSON.parse(text); } catch { return fail(NO_CONNECTION, name); }
  if (status !== 202) return fail(answer.error, name);
  follow(number, answer, from);
}

function follow(number, urls, from) {
  const scaled = (value) => from + ((100 - from) * value) / 100;
  const update = (job) => {
    if (number !== current) return true;
    if (job.stage === "failed") fail(job.error, job.name);
    else if (job.stage === "done") finish(job);
    else show(job.stage, scaled(job.percent), job.eta_s, job.position);
    return job.stage === "failed" || job.stage === "done";
  };
  const events = new EventSource(urls.events);
  source = events;
  cancellable(async () => {
    try {
      const response = await fetch(urls.url, { method: "DELETE" });
      const job = await response.json();
      if (number !== current) return;
      events.close();
      // A job that ended in the meantime is answered with its result.
      if (response.ok) update(job);
      else fail(job.error, $("progress-name").textContent);
    } catch {
      if (number === current) fail(NO_CONNECTION, $("progress-name").textContent);
    }
  });
  for (const name of ["progress", "done", "failed"]) {
    events.addEventListener(name, (event) => update(JSON.parse(event.data)) && events.close());
  }
  // If events do not get through, or too many clients listen, poll the job.
  events.onerror = () => {
    events.close();
    if (number === current) poll(number, urls.url, update);
  };
}

async function poll(number, url, update) {
  while (number === current) {
    try {
      const response = await fetch(url);
      const job = await response.json();
      if (number !== current) return;
      if (!response.ok) return fail(job.error);
      if (update(job)) return;
    } catch {
      if (number === current) fail(NO_CONNECTION);
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

function finish(job) {
  const row = job.result.prediction;
  remember({ id: job.id, name: job.name, label: row.top_label, verdict: row.verdict, confidence: row.confidence, at: Date.now() });
  render(job);
}

function render(job) {
  $("progress").hidden = $("error").hidden = true;
  $("result").replaceChildren(verdict(job), h("div", { class: "columns" }, h("div", { class: "stack" }, odds(job.result), facts(job.result)), trust(job.result)), attention(job.result), timeline(job.result));
  $("result").hidden = false;
  $("verdict").focus({ preventScroll: true });
  $("result").scrollIntoView({ block: "start" });
}

function section(title, note, ...children) {
  return h("section", {}, h("h2", {}, title), note ? h("p", { class: "soft small" }, note) : null, ...children);
}

function verdict({ id, name, result }) {
  const row = result.prediction, { score, threshold, basis } = result.trust, isFar = result.trust.is_out_of_distribution;
  const isAccepted = row.verdict === "accepted";
  const reasons = [];
  if (threshold > 1) reasons.push("validation supports no trust score, so that every video is abstained on");
  else if (score < threshold) reasons.push(`its trust score ${score.toFixed(2)} is below the threshold ${threshold.toFixed(2)}`);
  if (isFar) reasons.push("its distance from the training data is above 1");
  const why = isAccepted ? `Accepted: the trust score is at least ${threshold.toFixed(2)}, and the distance from the training data at most 1. ${BASES[basis]}` : `Abstained, because ${reasons.join(", and ")}. ${row.prediction_set ? `Possible: ${row.prediction_set.join(" or ")}.` : `${row.top_label} is only the most probable class.`}`;
  const card = (title, value, note, isLow) => h("div", { class: "card" }, h("span", {}, title), h("b", { class: isLow ? "low" : "" }, value), h("span", {}, note));
  return h("section", {},
    h("div", { class: "files" }, h("span", {}, name), h("a", { href: `/api/jobs/${id}`, class: "button" }, "JSON")),
    h("h2", { class: "verdict", id: "verdict", tabindex: "-1" }, h("b", {}, !isAccepted && row.prediction_set ? row.prediction_set.join(" or ") : row.sublabel ? `${row.top_label} / ${row.sublabel}` : row.top_label), h("span", { class: `tag ${isAccepted ? "good" : "warn"}` }, row.verdict)),
    h("p", { class: "why" }, why),
    row.top_sublabel ? h("p", { class: "why" }, row.sublabel ? "Its sublabel is answered too: its trust keeps the risk." : `The most probable sublabel of ${row.top_label} is ${row.top_sublabel}, which is not answered: its trust ${row.sublabel_trust.toFixed(2)} is too low${isAccepted ? "" : ", or its class is not accepted"}.`) : null,
    row.sublabel_set && !row.sublabel ? h("p", { class: "why" }, `Possible sublabels: ${row.sublabel_set.slice(0, 12).join(", ")}${row.sublabel_set.length > 12 ? ` and ${row.sublabel_set.length - 12} more` : ""}.`) : null,
    result.used_in ? h("p", { class: "why" }, `The ensemble has seen this video in its ${result.used_in === "train" ? "training" : "validation"}: its confidence and trust score say nothing about new videos.`) : null,
    h("div", { class: "cards" },
      card("Confidence", percent(row.confidence), "calibrated", false),
      card("Trust", score.toFixed(2), threshold > 1 ? "no video is accepted" : `accepted from ${threshold.toFixed(2)}`, score < threshold),
      card("Distance", row.ood_score.toFixed(2), "from the training data, accepted up to 1", isFar),
      card("Disagreement", percent(row.member_disagreement), `between ${row.member_probabilities.length} members`, row.member_disagreement > 0.25)));
}

function odds(result) {
  const row = result.prediction, list = h("div", { class: "odds big" });
  const ranked = result.classes.map((name, index) => [name, row.probabilities[index]]).sort((a, b) => b[1] - a[1]);
  for (const [name, share] of ranked.slice(0, 12)) {
    const isTop = name === row.top_label;
    list.append(h("span", { class: isTop ? "top-name" : "", title: name }, name), h("i", { class: isTop ? "top" : "", "--p": (100 * share).toFixed(2), "aria-hidden": "true" }), h("span", { class: "n" }, percent(share)));
  }
  const rest = ranked.slice(12).reduce((sum, [, share]) => sum + share, 0);
  return section("Probabilities", "Probability of each class, calibrated on the held-out videos.", list, ranked.length > 12 ? h("p", { class: "soft small after" }, `and ${ranked.length - 12} more, ${percent(rest)} together`) : null, ...sublabelOdds(result));
}

// Probabilities of the sublabels of the most probable class: that of the class times the conditional one.
function sublabelOdds(result) {
  const row = result.prediction, list = h("div", { class: "odds big" });
  if (!row.top_sublabel) return [];
  const pairs = result.classes.flatMap((name) => (result.taxonomy[name] || []).map((sublabel) => [name, sublabel]));
  const ranked = pairs.map(([name, sublabel], index) => [name, sublabel, row.confidence * row.sublabel_probabilities[index]]).filter(([name]) => name === row.top_label).sort((a, b) => b[2] - a[2]);
  for (const [, name, share] of ranked.slice(0, 12)) {
    const isTop = name === row.top_sublabel;
    list.append(h("span", { class: isTop ? "top-name" : "", title: name }, name), h("i", { class: isTop ? "top" : "", "--p": (100 * share).toFixed(2), "aria-hidden": "true" }), h("span", { class: "n" }, percent(share)));
  }
  const rest = ranked.slice(12).reduce((sum, [, , share]) => sum + share, 0);
  return [h("h3", {}, `Sublabels of ${row.top_label}`), list, ranked.length > 12 ? h("p", { class: "soft small after" }, `and ${ranked.length - 12} more, ${percent(rest)} together`) : null].filter(Boolean);
}

function trust(result) {
  const list = h("ul", { class: "parts" }), most = Math.max(...result.trust.parts.map((part) => Math.abs(part.effect)), 1);
  const low = result.trust.parts.filter((part) => part.effect < -0.05);
  for (const part of result.trust.parts) {
    const [title, meaning] = PARTS[part.name] || [part.name, ""], isLow = low.includes(part);
    const effect = `${part.effect < 0 ? "−" : "+"}${Math.abs(part.effect).toFixed(2)}`;
    list.append(h("li", { class: isLow ? "low" : "" },
      h("b", {}, isLow ? `${title}: low` : title),
      h("div", { class: `effect ${part.effect < 0 ? "minus" : ""}`, role: "img", "aria-label": `${effect} in log-odds`, title: `${effect} in log-odds` }, h("i", { "--p": ((50 * Math.abs(part.effect)) / most).toFixed(1) })),
      h("small", {}, part.typical === null ? `${meaning}: ${percent(part.value)}` : `${meaning}; ${plain(part.value)} here, ${plain(part.typical)} on average`)));
  }
  const names = low.map((part) => (PARTS[part.name] || [part.name])[0].toLowerCase());
  const note = names.length ? `Reduced by: ${names.join(", ")}.` : "Nothing reduces it.";
  return section(`Trust score ${result.trust.score.toFixed(2)} and its parts`, `The estimated probability that the class is right. ${note}`, list);
}

function attention(result) {
  const row = result.prediction, most = Math.max(...row.attention), length = Math.max(row.duration_s, row.pts_s[row.pts_s.length - 1], 1e-9);
  const x = (pts) => (1000 * pts) / length, y = (weight) => 100 - (96 * weight) / most;
  const points = row.pts_s.map((pts, index) => [x(pts), y(row.attention[index])]);
  if (points.length === 1) points.push([1000, points[0][1]]);
  const path = points.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" ");
  const svg = h("svg:svg", { class: "curve", viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": "attention over the video" },
    h("svg:polygon", { class: "area", points: `${points[0][0].toFixed(1)},100 ${path} ${points[points.length - 1][0].toFixed(1)},100` }), h("svg:polyline", { class: "top", points: path }));
  const strip = h("div", { class: "strip" }), best = Math.max(...result.attended_frames.map((frame) => frame.weight));
  for (const frame of result.attended_frames) {
    const peak = h("svg:line", { class: "peak", x1: x(frame.pts_s), x2: x(frame.pts_s), y1: 0, y2: 100 });
    svg.append(peak);
    const figure = h("figure", { class: frame.weight === best ? "best" : "", tabindex: "0" },
      h("img", { src: frame.image, alt: `frame at ${clock(frame.pts_s)}` }), h("figcaption", {}, h("span", {}, clock(frame.pts_s)), h("span", {}, percent(frame.weight))));
    for (const [on, off] of [["mouseenter", "mouseleave"], ["focus", "blur"]]) {
      figure.addEventListener(on, () => peak.classList.add("on"));
      figure.addEventListener(off, () => peak.classList.remove("on"));
    }
    strip.append(figure);
  }
  return section("Attention over time", `Attention of the ${row.num_frames} sampled frames. Below: the frames with the largest shares, as the model sees them.`, svg, clockLine(length), strip);
}

function clockLine(length) {
  return h("div", { class: "clock", "aria-hidden": "true" }, ...[0, 0.5, 1].map((part) => h("span", {}, clock(part * length))));
}

function timeline(result) {
  const row = result.prediction, { segments, segment_length_s } = result.timeline, length = Math.max(row.duration_s, 1e-9);
  const line = h("div", { class: "line", role: "img", "aria-label": "classes over the video; the table below lists them" }), body = h("tbody"), shown = new Set();
  let at = 0;
  for (const segment of segments) {
    if (segment.start_s > at) line.append(h("i", { class: "gap", "--w": (100 * (segment.start_s - at)) / length }));
    at = Math.min(segment.end_s, length);
    shown.add(segment.top_label);
    const span = `${clock(segment.start_s)} to ${clock(segment.end_s)}`, sure = percent(segment.confidence);
    line.append(h("i", { class: tone(segment.top_label), "--w": (100 * Math.max(at - segment.start_s, 0)) / length, "--s": (100 * segment.confidence).toFixed(0), title: `${span}: ${segment.top_label} ${sure}` }));
    body.append(h("tr", {}, h("td", { class: "n" }, span), h("td", {}, segment.top_label), h("td", { class: "n" }, sure), h("td", { class: "n" }, String(segment.num_frames))));
  }
  const legend = h("ul", { class: "legend" }, ...classes.filter((name) => shown.has(name)).map((name) => h("li", { class: tone(name) }, h("i"), name)));
  const head = h("tr", {}, ...["time", "class", "confidence", "frames"].map((name) => h("th", { scope: "col", class: name === "class" ? "" : "n" }, name)));
  const table = h("details", {}, h("summary", {}, segments.length === 1 ? "The segment" : `All ${segments.length} segments`), h("table", { class: "wide" }, h("thead", {}, head), body));
  return section("Timeline", `Segments of ${segment_length_s} s, each classified from its own frames. Paler means less confident.`, line, clockLine(length), legend, table);
}

function facts(result) {
  const row = result.prediction;
  const flags = result.quality.length ? result.quality.map((name) => h("span", { class: "tag warn" }, QUALITY[name] || name)) : [h("span", { class: "tag good" }, "no defects found")];
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const pairs = {
    duration: clock(row.duration_s), size: `${row.width} × ${row.height}, ${bytes(row.size_bytes)}`, codec: row.video_codec,
    "frame rate": row.framerate === null ? "unknown" : `${row.framerate.toFixed(2)} per second`, "frames sampled": String(row.num_frames),
    brightness: `${mean(row.luma_mean).toFixed(0)} of 255`, sharpness: mean(row.sharpness).toFixed(0), ensemble: row.ensemble_id,
  };
  return section("The video", null, h("div", { class: "flags" }, ...flags), h("dl", {}, ...Object.entries(pairs).flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
}

// The server keeps the results. This browser keeps the list of its own jobs.
function remembered() {
  try { return JSON.parse(localStorage.getItem(RECENT)) || []; } catch { return []; }
}

function keep(entries) {
  try { localStorage.setItem(RECENT, JSON.stringify(entries.slice(0, MOST_RECENT))); } catch { /* no storage: the list stays empty */ }
  list();
}

function remember(entry) {
  keep([entry, ...remembered().filter((other) => other.id !== entry.id)]);
}

function list() {
  const entries = remembered();
  $("recent-none").hidden = entries.length > 0;
  $("forget").hidden = entries.length === 0;
  $("recent-list").replaceChildren(...entries.map((entry) => {
    const button = h("button", { type: "button" }, h("span", {}, entry.name), h("span", { class: `tag ${entry.verdict === "accepted" ? "good" : "warn"}` }, `${entry.label} ${percent(entry.confidence, 0)}`), h("small", {}, new Date(entry.at).toLocaleString()));
    button.addEventListener("click", () => reopen(entry));
    return h("li", {}, button);
  }));
}

async function reopen(entry) {
  const number = begin(entry.name, false);
  try {
    const response = await fetch(`/api/jobs/${encodeURIComponent(entry.id)}`);
    const job = await response.json();
    if (number !== current) return;
    if (response.ok) render(job);
    else fail(job.error, entry.name);
  } catch {
    if (number === current) fail(NO_CONNECTION, entry.name);
  }
}

async function watchServer() {
  let wait = 15000, state = "gone", message = "no connection";
  try {
    const response = await fetch("/healthz");
    state = response.ok ? "ready" : "loading";
    message = response.ok ? "ready" : "loading the model …";
    if (!response.ok) wait = 1000;
  } catch { wait = 3000; }
  if ($("state").textContent !== message) {
    $("state").textContent = message;
    $("state").className = `state ${state}`;
  }
  $("file").disabled = state !== "ready";
  setTimeout(watchServer, wait);
}

$("max").textContent = bytes(maxBytes);
$("file").addEventListener("change", () => {
  if ($("file").files.length) sendFile($("file").files[0]);
  $("file").value = "";
});
for (const name of ["dragover", "drop"]) {
  // On the whole page: a file dropped beside the field would replace the page.
  window.addEventListener(name, (event) => event.preventDefault());
}
let over = 0;
window.addEventListener("dragenter", () => $("drop").classList.toggle("over", ++over > 0));
window.addEventListener("dragleave", () => $("drop").classList.toggle("over", --over > 0));
window.addEventListener("drop", (event) => {
  over = 0;
  $("drop").classList.remove("over");
  if (event.dataTransfer.files.length && !$("file").disabled) sendFile(event.dataTransfer.files[0]);
});
if ($("uri-form")) {
  $("uri-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sendUri($("uri").value.trim());
  });
}
$("cancel").addEventListener("click", () => {
  $("cancel").disabled = true;
  cancel();
  // The button disappears: who works by keyboard goes on at the field for the next video.
  $("file").focus({ preventScroll: true });
});
$("forget").addEventListener("click", () => keep([]));
list();
watchServer();
