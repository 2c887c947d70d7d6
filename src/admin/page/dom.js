// Makes elements. Foreign text only ever becomes text.

export const $ = id => document.getElementById(id);

/** An element with text and elements in it. */
export function node(tag, content, className) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  for (const part of [content ?? []].flat(Infinity)) made.append(part instanceof Node ? part : String(part));
  return made;
}

/** A table; a column whose heading begins with # has numbers. */
export function table(heads, rows, empty) {
  if (!rows.length) return node("p", empty, "quiet");
  const isNumber = index => heads[index].startsWith("#");
  const line = (cells, tag) => node("tr", cells.map((cell, index) => node(tag, cell, isNumber(index) ? "number" : "")));
  return node("table", [node("thead", line(heads.map(head => head.replace("#", "")), "th")), node("tbody", rows.map(row => line(row, "td")))]);
}

export const percent = part => part == null ? "" : (part * 100).toFixed(1) + " %";

/** A bar of parts: [share, colour]. */
export function bar(parts) {
  const made = node("span", [], "bar");
  for (const [share, colour] of parts) {
    const piece = node("i");
    piece.style.width = share * 100 + "%";
    piece.style.background = colour;
    made.append(piece);
  }
  return made;
}

export function dot(colour) {
  const made = node("span", [], "dot");
  made.style.background = colour;
  return made;
}

/** Asks this server; an answer that is no JSON is an error with its text. */
export async function ask(path, question) {
  const options = question && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(question) };
  const answer = await fetch(path, options);
  const text = await answer.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(text.trim() || "status " + answer.status);
  }
}
