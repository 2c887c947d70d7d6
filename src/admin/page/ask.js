// "Which pod, and why?": asks /explain and shows the way of the request step by step.

import { $, ask, node } from "./dom.js";

/** The question as the form has it. */
function question() {
  const lines = $("headers").value.split("\n").filter(line => line.includes(":"));
  const headers = lines.map(line => [line.slice(0, line.indexOf(":")).trim(), line.slice(line.indexOf(":") + 1).trim()]);
  const asked = { method: $("method").value.trim() || "GET", url: $("url").value.trim(), headers };
  const source = $("source").value.trim();
  return source ? { ...asked, source } : asked;
}

/** Where in its table a decision was found: 0 to 1. */
export function placeOf(decision) {
  if (!decision.hash || !decision.table) return null;
  // A ring's points are not in equal distances, its hashes are.
  return decision.table.kind === "ring" ? Number(BigInt("0x" + decision.hash) >> 11n) / 2 ** 53 : decision.table.entry / decision.table.size;
}

function steps(decision) {
  const { gateway, listener, route, rule, match, policies, hash, table, backend, host, next } = decision;
  const key = one => [node("code", one.policy), one.value === null ? " not found" : [" = ", node("code", one.value)]];
  return [
    ["Listener", gateway && `${gateway}, ${listener}`],
    ["Route", route && `${route}, rule ${rule}, match ${match}`],
    ["Key", policies.map((one, index) => [index ? ", " : "", key(one)])],
    ["Hash", hash && [node("code", hash), table ? `, entry ${table.entry} of the ${table.kind} of ${table.size}` : ""]],
    ["Backend", backend],
    ["Pod", host && [node("strong", host), next.length ? `, then ${next.join(", ")}` : ""]],
    ["Sets a cookie", decision.set_cookie && node("code", decision.set_cookie)],
    ["Answer of the gateway itself", decision.status && node("span", decision.status, "bad")],
    ["Why", decision.reason],
  ].filter(([, content]) => content && [content].flat(Infinity).length);
}

export function setUp(found) {
  $("ask").addEventListener("submit", async event => {
    event.preventDefault();
    try {
      const decision = await ask("explain", question());
      if (decision.error) throw new Error(decision.error);
      const whole = node("details", [node("summary", "as JSON"), node("pre", JSON.stringify(decision, null, 2))]);
      $("answer").replaceChildren(node("ol", steps(decision).map(([title, content]) => node("li", [node("b", title), content])), "path"), whole);
      found(decision);
    } catch (error) {
      $("answer").replaceChildren(node("p", error.message, "bad"));
    }
  });
}
