// Conditions on columns, as mapix.expression understands them, for pages without a server.
// `parse` returns a tree; each node has its place in the text.

const NAMES = /^[\p{L}_][\p{L}\p{N}_]*/u;
const NUMBERS = /^(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?/;
const OPERATORS = ["<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%", "(", ")"];
const WORDS = new Set(["and", "or", "not", "in", "True", "False"]);

function tokens(text) {
  const found = [];
  let at = 0;
  while (at < text.length) {
    const rest = text.slice(at);
    const blank = /^\s+/.exec(rest);
    if (blank) {
      at += blank[0].length;
      continue;
    }
    const quote = /^'((?:[^'\\\n]|\\.)*)'|^"((?:[^"\\\n]|\\.)*)"/.exec(rest);
    const number = NUMBERS.exec(rest);
    const name = NAMES.exec(rest);
    const operator = OPERATORS.find((o) => rest.startsWith(o));
    let token;
    if (quote) {
      const value = (quote[1] ?? quote[2]).replace(/\\(.)/g, (_, c) => ({ n: "\n", t: "\t" })[c] ?? c);
      token = { kind: "constant", value, length: quote[0].length };
    } else if (number) token = { kind: "constant", value: Number(number[0]), length: number[0].length };
    else if (name) {
      const word = name[0];
      token = WORDS.has(word) ? { kind: word, length: word.length } : { kind: "name", value: word, length: word.length };
    } else if (operator) token = { kind: operator, length: operator.length };
    else throw new Error(`${JSON.stringify(text)} is not a condition: ${rest[0]}`);
    found.push({ ...token, begin: at, end: at + token.length });
    at += token.length;
  }
  found.push({ kind: "end", begin: text.length, end: text.length });
  return found;
}

export function parse(text) {
  const list = tokens(text);
  let i = 0;
  const next = () => list[i];
  const take = () => list[i++];
  const made = (kind, begin, rest) => ({ kind, begin, end: list[i - 1].end, ...rest });
  const wrong = () => new Error(`${JSON.stringify(text)} is not a condition`);

  function joined(kind, below) {
    const { begin } = next();
    const parts = [below()];
    while (next().kind === kind) {
      take();
      parts.push(below());
    }
    return parts.length > 1 ? made(kind, begin, { parts }) : parts[0];
  }
  const or = () => joined("or", and);
  const and = () => joined("and", not);
  function not() {
    if (next().kind !== "not") return compared();
    const { begin } = take();
    return made("not", begin, { part: not() });
  }
  function compared() {
    const { begin } = next();
    const sides = [sum()];
    const operators = [];
    for (;;) {
      const { kind } = next();
      if (["<", "<=", ">", ">=", "==", "!=", "in"].includes(kind)) {
        take();
        operators.push(kind);
      } else if (kind === "not" && list[i + 1].kind === "in") {
        i += 2;
        operators.push("not in");
      } else break;
      sides.push(sum());
    }
    return operators.length ? made("compare", begin, { sides, operators }) : sides[0];
  }
  function binary(kinds, below) {
    const { begin } = next();
    let left = below();
    while (kinds.includes(next().kind)) {
      const operator = take().kind;
      left = made("binary", begin, { operator, left, right: null });
      left.right = below();
      left.end = list[i - 1].end;
    }
    return left;
  }
  const sum = () => binary(["+", "-"], product);
  const product = () => binary(["*", "/", "%"], signed);
  function signed() {
    if (next().kind === "+") take();
    if (next().kind !== "-") return atom();
    const { begin } = take();
    return made("minus", begin, { part: signed() });
  }
  function atom() {
    const token = take();
    if (token.kind === "constant" || token.kind === "name") return token;
    if (token.kind === "True" || token.kind === "False") {
      return { ...token, kind: "constant", value: token.kind === "True" ? 1 : 0 };
    }
    if (token.kind !== "(") throw wrong();
    const inside = or();
    if (take().kind !== ")") throw wrong();
    return { ...inside, begin: token.begin, end: list[i - 1].end };
  }

  const found = or();
  if (next().kind !== "end") throw wrong();
  return found;
}

const NUMERIC = {
  "+": (a, b) => a + b, "-": (a, b) => a - b, "*": (a, b) => a * b, "/": (a, b) => a / b,
  "%": (a, b) => ((a % b) + b) % b,
};
const COMPARED = {
  "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b,
  "==": (a, b) => a === b, "!=": (a, b) => a !== b,
  in: (a, b) => b.includes(a), "not in": (a, b) => !b.includes(a),
};

// Return a function of a record's number; `columns` is name -> values, null where missing.
export function compiled(text, columns) {
  const names = new Set();
  const number = (value) => (typeof value === "boolean" ? Number(value) : value);
  function of(node) {
    switch (node.kind) {
      case "constant": return () => node.value;
      case "name": {
        const values = columns[node.value];
        if (!values) throw new Error(`there is no column ${JSON.stringify(node.value)}; the columns: ${Object.keys(columns).join(", ")}`);
        names.add(node.value);
        return (i) => number(values[i]);
      }
      case "not": {
        const part = of(node.part);
        return (i) => !part(i);
      }
      case "minus": {
        const part = of(node.part);
        return (i) => -part(i);
      }
      case "and": {
        const parts = node.parts.map(of);
        return (i) => parts.every((part) => part(i));
      }
      case "or": {
        const parts = node.parts.map(of);
        return (i) => parts.some((part) => part(i));
      }
      case "binary": {
        const [left, right] = [of(node.left), of(node.right)];
        const work = NUMERIC[node.operator];
        return (i) => work(left(i), right(i));
      }
      default: {
        const sides = node.sides.map(of);
        const works = node.operators.map((operator) => COMPARED[operator]);
        return (i) => works.every((work, k) => work(sides[k](i), sides[k + 1](i)));
      }
    }
  }
  const holds = of(parse(text));
  const needed = [...names].map((name) => columns[name]);
  return (i) => needed.every((values) => values[i] !== null) && Boolean(holds(i));
}

const MIRRORED = { "<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==" };

function constant(node) {
  if (node.kind === "minus") {
    const value = constant(node.part);
    return typeof value === "number" ? -value : null;
  }
  return node.kind === "constant" ? node.value : null;
}

function one(operator, left, right) {
  let [name, other, sign] = [left, right, operator];
  if (name.kind !== "name") [name, other, sign] = [right, left, MIRRORED[operator]];
  const value = constant(other);
  if (name.kind !== "name" || value === null || !sign) return null;
  if (sign === "==") return { column: name.value, kind: "values", values: [value] };
  if (typeof value === "string" || !MIRRORED[sign]) return null;
  const below = sign.startsWith("<");
  const closed = sign.endsWith("=");
  return {
    column: name.value, kind: "range", low: below ? null : value, high: below ? value : null,
    with_low: closed && !below, with_high: closed && below,
  };
}

function fits(a, b) {
  if (a?.kind !== "range" || b?.kind !== "range" || a.column !== b.column) return false;
  return !["low", "high"].some((end) => a[end] !== null && b[end] !== null);
}

function narrow(a, b) {
  for (const end of ["low", "high"]) {
    if (b[end] !== null) {
      a[end] = b[end];
      a[`with_${end}`] = b[`with_${end}`];
    }
  }
  if (a.text) a.text = `${a.text} and ${b.text}`;
}

function brush(node) {
  if (node.kind === "or") {
    const brushes = node.parts.map(brush);
    const [first] = brushes;
    if (!first || first.kind === "range") return null;
    if (brushes.some((b) => b?.column !== first.column || b.kind !== first.kind)) return null;
    return { ...first, values: brushes.flatMap((b) => b.values) };
  }
  if (node.kind !== "compare") return null;
  const { sides, operators } = node;
  if (operators.length === 1 && operators[0] === "in") {
    const value = constant(sides[0]);
    return typeof value === "string" && sides[1].kind === "name"
      ? { column: sides[1].value, kind: "within", values: [value] } : null;
  }
  let found = null;
  for (let k = 0; k < operators.length; k++) {
    const next = one(operators[k], sides[k], sides[k + 1]);
    if (!next || (found && !fits(found, next))) return null;
    if (found) narrow(found, next);
    else found = next;
  }
  return found;
}

// The parts of a condition, as /api/condition returns them.
export function partsOf(text, columns) {
  if (!text.trim()) return [];
  const tree = parse(text);
  const nodes = tree.kind === "and" ? tree.parts : [tree];
  const found = [];
  for (const node of nodes) {
    let part = { text: text.slice(node.begin, node.end), ...brush(node) };
    if (part.column && !(part.column in columns)) part = { text: part.text };
    const earlier = found.find((p) => fits(p, part));
    if (earlier) narrow(earlier, part);
    else found.push(part);
  }
  return found;
}
