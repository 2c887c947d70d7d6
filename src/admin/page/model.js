// What the page shows, made of what the gateway says. No document is touched here.

/** The colour of each pod of a backend: neighbours differ, and a pod keeps its colour while it is there. */
export class Colours {
  #given = new Map();
  of(pod) {
    if (!this.#given.has(pod)) this.#given.set(pod, this.#given.size);
    const turn = this.#given.get(pod);
    return `hsl(${Math.round((turn * 137.508 + 205) % 360)} 62% ${turn % 2 ? 60 : 48}%)`;
  }
}

const text = value => typeof value === "string" ? value : JSON.stringify(value);
const only = object => Object.entries(object ?? {})[0] ?? ["", ""];

/** `prefix /cart` */
export function pathOf(route) {
  const [kind, value] = only(route.path);
  return (route.method ? route.method + " " : "") + (kind ? `${kind} ${text(value)}` : "");
}

/** `cookie sid` */
export function keyOf(policy) {
  const source = policy.source;
  if (typeof source === "string") return source;
  const [kind, value] = only(source);
  return `${kind} ${value?.name ?? text(value)}`;
}

export function keysOf(policy) {
  const keys = policy?.affinity?.keys ?? policy?.hash ?? [];
  return keys.map(key => keyOf(key) + (key.terminal ? " (terminal)" : "")).join(", ");
}

/** Where a route leads, in words, and whether that is an error. */
export function targetOf(action) {
  if (!action) return { text: "", bad: false };
  if (action.forward) {
    const several = action.forward.length > 1;
    const one = target => target.name + (several ? ` (${target.weight})` : "") + (target.invalid ? `, invalid: ${target.invalid.reason}` : "");
    return { text: action.forward.map(one).join(", "), bad: action.forward.some(target => target.invalid) };
  }
  if (action.redirect) return { text: "redirect " + action.redirect.status, bad: false };
  if (action.respond) return { text: `answers ${action.respond.status}: ${action.respond.reason}`, bad: true };
  return { text: text(action), bad: false };
}

const KNOWN_OF_HOST = new Set(["address", "pod", "weight"]);

/** Everything else that the gateway says of a host, such as its slot, or that it drains. */
function remarks(host) {
  const extra = Object.entries(host).filter(([name, value]) => !KNOWN_OF_HOST.has(name) && value !== null && value !== false);
  const shown = extra.map(([name, value]) => value === true ? name : `${name} ${text(value)}`);
  return host.weight === 1 ? shown : [`weight ${host.weight}`, ...shown];
}

export function backendsOf(config) {
  return config.snapshot.clusters.map(cluster => {
    const name = cluster.cluster ?? cluster.name;
    const shares = config.shares?.[name] ?? {};
    const pods = cluster.hosts.map(host => ({
      address: host.address, name: host.pod?.name ?? host.address, planned: shares[host.address] ?? null, remarks: remarks(host),
    }));
    const trouble = cluster.refused ? "refused: " + cluster.refused : cluster.hosts.length ? null : "no pods: 503";
    const facts = [
      cluster.table ? `${cluster.table.kind} of ${cluster.table.size}` : "does not hash",
      cluster.affinity?.policy && "AffinityPolicy " + cluster.affinity.policy,
      cluster.affinity && keysOf(cluster), cluster.connection?.protocol,
    ].filter(Boolean);
    return {
      name, backend: cluster.name, table: cluster.table, pods, trouble, facts,
      words: [name, trouble ?? "", ...facts, ...pods.map(pod => pod.address + " " + pod.name)].join(" ").toLowerCase(),
    };
  });
}

export function routesOf(config) {
  const routes = [];
  const ofBackend = new Map(config.snapshot.clusters.map(cluster => [cluster.cluster ?? cluster.name, keysOf(cluster)]));
  for (const bind of config.snapshot.binds) {
    for (const listener of bind.listeners ?? []) {
      for (const host of listener.hosts ?? []) {
        for (const route of host.routes ?? []) {
          const target = targetOf(route.action);
          const first = route.action?.forward?.[0];
          const backend = first?.cluster ?? first?.name ?? null;
          const row = {
            host: host.hostname, path: pathOf(route), name: `${route.route}, rule ${route.rule}`, target: target.text, bad: target.bad,
            key: keysOf(route.policy) || (ofBackend.get(backend) ?? ""), gateway: bind.gateway, listener: listener.name,
            url: `http://${host.hostname === "*" ? "localhost" : host.hostname.replace("*", "any")}:${bind.port}${typeof only(route.path)[1] === "string" ? only(route.path)[1] : "/"}`,
            backend,
          };
          row.words = [row.host, row.path, row.name, row.target, row.key, row.gateway, row.listener].join(" ").toLowerCase();
          routes.push(row);
        }
      }
    }
  }
  return routes;
}

export function problemsOf(config) {
  const found = config.notices.map(notice => ["notice", notice]);
  const isBad = condition => ["Conflicted", "Overridden", "PartiallyInvalid"].includes(condition.type) ? condition.status === "True" : condition.status === "False";
  for (const [object, status] of Object.entries(config.statuses)) {
    const ofListener = listener => listener.conditions.map(condition => ({ ...condition, message: `listener ${listener.name}: ${condition.message}` }));
    const conditions = [
      ...(status.conditions ?? []), ...(status.listeners ?? []).flatMap(ofListener),
      ...[...(status.parents ?? []), ...(status.ancestors ?? [])].flatMap(parent => parent.conditions ?? []),
    ];
    for (const one of conditions.filter(isBad)) found.push([object, `${one.type}=${one.status} (${one.reason}): ${one.message}`]);
    for (const one of Object.values(status.statuses ?? {})) if (one.state !== "Accepted") found.push([object, `${one.state}: ${one.reason}`]);
  }
  return found.map(([object, message]) => ({ object, message, words: (object + " " + message).toLowerCase() }));
}

/** The rows that have every word. */
export function matching(rows, search) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return words.length ? rows.filter(row => words.every(word => row.words.includes(word))) : rows;
}

export function sorted(rows, key, descending) {
  if (!key) return rows;
  const value = row => typeof row[key] === "function" ? row[key]() : row[key];
  const compare = (one, other) => typeof one === "number" ? one - other : String(one).localeCompare(String(other), "en", { numeric: true });
  const inOrder = [...rows].sort((one, other) => compare(value(one), value(other)));
  return descending ? inOrder.reverse() : inOrder;
}

/** The question to /simulate. */
export function simulation(backend, scale) {
  const [kind, name] = backend.split(" ");
  return { [kind.toLowerCase()]: name, scale };
}

/** What a change of a table did to its places: the part that has another pod now. */
export function movedPart(before, now) {
  if (!before?.places?.length || before.places.length !== now.places.length) return null;
  const owner = (picture, place) => picture.hosts[picture.places[place]];
  let moved = 0;
  for (let place = 0; place < now.places.length; place++) if (owner(before, place) !== owner(now, place)) moved++;
  return moved / now.places.length;
}
