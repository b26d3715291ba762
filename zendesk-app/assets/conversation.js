// What the agent sees, as data. Pure: (items, something that happened) → items.

const STAGES = ["queued", "preparing", "collecting", "checking", "rendering", "storing", "done"];

/**
 * The agent asked something, by the request `key`; `sent` false while the connection is away. `what` and
 * `payload` are the request, to repeat it.
 */
export function asked(items, { key, text, what, payload, sent }) {
  return [...items, { key, kind: "question", text, what, payload, sent }];
}

/** A job is known to the server: its question is ours, or was asked by somebody else or before. */
function accepted(items, job, { what, request, ...payload }) {
  const mine = (item) => item.kind === "question" && (item.job === job || item.key === request);
  const known = items.some(mine)
    ? items.map((item) => (mine(item) ? { ...item, job, sent: true } : item))
    : [...items, { key: request ?? `${job}:question`, kind: "question", what, payload, text: payload.text, sent: true, job }];
  return put(known, { key: `${job}:pending`, kind: "pending", job });
}

/** The server acknowledged a question: its job, or why it was refused. */
export function acknowledged(items, key, answer) {
  const known = items.map((item) => (item.key === key ? { ...item, sent: true, job: answer.job } : item));
  return answer.ok ? known : [...known, { key: `${key}:error`, kind: "error", problem: answer.problem ?? {}, retry: key }];
}

/** Progress never runs backwards, whatever arrives. */
function progressed(before, data, at) {
  const percent = Math.max(before?.percent ?? 0, Math.min(100, Math.max(0, Number(data.percent) || 0)));
  const stage = STAGES.includes(data.stage) ? data.stage : before?.stage ?? "preparing";
  return { ...before, ...data, kind: "progress", percent, stage, at, active: true };
}

/** In place of what has its key, else below the question that it belongs to: several jobs may be under way. */
function put(items, item) {
  const at = items.findIndex((other) => other.key === item.key);
  if (at >= 0) return items.map((other, index) => (index === at ? item : other));
  const last = items.findLastIndex((other) => other.job === item.job);
  return last < 0 ? [...items, item] : [...items.slice(0, last + 1), item, ...items.slice(last + 1)];
}

function ended(items, job) {
  const progress = `${job}:progress`;
  const pending = `${job}:pending`;
  return items
    .filter((item) => item.key !== pending && item.key !== progress);
}

/** One event of the server's, in order and each once (the transport sees to that). */
export function happened(items, event, now) {
  const { job, kind, data = {} } = event;
  const find = (key) => items.find((item) => item.key === key);
  switch (kind) {
    case "accepted":
      return accepted(items, job, data);
    case "progress": {
      const key = `${job}:progress`;
      const rest = items.filter((item) => item.key !== `${job}:pending`);
      return put(rest, { ...progressed(find(key), data, now), key, job });
    }
    case "delta": {
      const key = `${job}:answer`;
      const rest = items.filter((item) => item.key !== `${job}:pending`);
      return put(rest, { key, kind: "answer", job, text: (find(key)?.text ?? "") + String(data.text ?? ""), streaming: true });
    }
    case "answer":
      return put(ended(items, job), { key: `${job}:answer`, kind: "answer", job, ...data, streaming: false });
    case "clarify":
      return put(ended(items, job), { key: `${job}:clarify`, kind: "clarify", job, ...data });
    case "report":
      return put(ended(items, job), { key: `${job}:report`, job, ...data, report: data.kind, kind: "report" });
    case "failed":
      return put(ended(items, job), { key: `${job}:error`, kind: "error", job, problem: data.problem ?? {} });
    case "cancelled":
      return put(ended(items, job), { key: `${job}:cancelled`, kind: "cancelled", job });
    default: // a newer server may say more; what we do not know is left alone
      return items;
  }
}

/** A progress item whose cancelling was asked for. */
export function cancelling(items, job) {
  return items.map((item) => (item.key === `${job}:progress` ? { ...item, active: false } : item));
}
