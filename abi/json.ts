// JSON with positions. JSON.parse words its errors differently in every engine and often gives no position; traces are
// written and cut by people, so a slip in one gets its line and column. Stricter than JSON.parse in two ways: a key may
// not stand twice in a record, and nesting is bounded. Printing keeps one step on one line, for diffs and for reading.
// A first reader may skip this file. Source: RFC 8259.

/** A value, or one sentence that says what is wrong and where. */
export type Decoded<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: string };

/** Records and lists within each other at most. */
const DEPTH_MAX = 64;
/** A record that fits into this many characters stays on one line. */
const LINE_MAX = 100;

const SPACE = /[ \t\n\r]*/uy;
const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/uy;
const ESCAPE = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/uy;
const WORD = /true|false|null/uy;

class Reader {
  readonly #text: string;
  #at = 0;
  /** The first thing that is wrong. */
  problem: string | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  /** The whole text as one value; meaningless once there is a problem. */
  document(): unknown {
    const value = this.#value(0);
    this.#take(SPACE);
    if (this.#at < this.#text.length) this.#fail('expected the end of the text');
    return value;
  }

  #value(depth: number): unknown {
    this.#take(SPACE);
    if (depth > DEPTH_MAX) return this.#fail(`nested more than ${DEPTH_MAX} deep`, false);
    const first = this.#text[this.#at];
    if (first === '{') return this.#record(depth);
    if (first === '[') return this.#list(depth);
    if (first === '"') return this.#string();
    const word = this.#take(WORD) ?? this.#take(NUMBER);
    return word === undefined ? this.#fail('expected a value') : JSON.parse(word);
  }

  #list(depth: number): unknown {
    const items: unknown[] = [];
    this.#at += 1;
    if (this.#accept(']')) return items;
    do {
      items.push(this.#value(depth + 1));
      if (this.problem !== undefined) return items;
    } while (this.#accept(','));
    return this.#accept(']') ? items : this.#fail('expected "," or "]"');
  }

  #record(depth: number): unknown {
    const entries = new Map<string, unknown>();
    this.#at += 1;
    if (this.#accept('}')) return {};
    do {
      this.#take(SPACE);
      const before = this.#at;
      const key = this.#text[before] === '"' ? this.#string() : this.#fail('expected a key in double quotes');
      if (key === undefined) return undefined;
      if (entries.has(key)) {
        this.#at = before;
        return this.#fail(`the key ${JSON.stringify(key)} stands twice in one record`, false);
      }
      if (!this.#accept(':')) return this.#fail('expected ":"');
      entries.set(key, this.#value(depth + 1));
      if (this.problem !== undefined) return undefined;
    } while (this.#accept(','));
    return this.#accept('}') ? Object.fromEntries(entries) : this.#fail('expected "," or "}"');
  }

  /** Scanned by hand: a pattern that repeats an alternative overflows the stack on long strings. */
  #string(): string | undefined {
    const from = this.#at;
    this.#at += 1;
    while (this.#text[this.#at] !== '"') {
      if (this.#at >= this.#text.length) return this.#fail('a string does not end');
      if (this.#text.charCodeAt(this.#at) < 0x20) return this.#fail('a string holds a character that must be escaped');
      if (this.#text[this.#at] !== '\\') this.#at += 1;
      else if (this.#take(ESCAPE) === undefined) return this.#fail('a string holds an escape that JSON does not have');
    }
    this.#at += 1;
    return JSON.parse(this.#text.slice(from, this.#at)) as string;
  }

  #accept(sign: string): boolean {
    this.#take(SPACE);
    const there = this.#text[this.#at] === sign;
    if (there) this.#at += 1;
    return there;
  }

  /** What `pattern` matches here, now behind us; undefined if it does not match. */
  #take(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text)?.[0];
    this.#at += found?.length ?? 0;
    return found;
  }

  #fail(sentence: string, saysFound = true): undefined {
    if (this.problem !== undefined) return undefined;
    const before = this.#text.slice(0, this.#at).split('\n');
    const there = this.#text.codePointAt(this.#at);
    const found = there === undefined ? 'the end of the text' : JSON.stringify(String.fromCodePoint(there));
    const position = `line ${before.length}, column ${(before.at(-1) ?? '').length + 1}`;
    this.problem = `${position}: ${sentence}${saysFound ? `, found ${found}` : ''}`;
    return undefined;
  }
}

/** The value that `text` writes, or what is wrong with it as `line 3, column 5: expected ...`. Never throws. */
export function parseJson(text: string): Decoded<unknown> {
  const reader = new Reader(text);
  const value = reader.document();
  return reader.problem === undefined ? { ok: true, value } : { ok: false, error: reader.problem };
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const onOneLine = (value: unknown): string => {
  if (Array.isArray(value)) return `[${value.map(onOneLine).join(', ')}]`;
  if (!isRecord(value)) return JSON.stringify(value);
  const entries = Object.entries(value).map(([key, part]) => `${JSON.stringify(key)}: ${onOneLine(part)}`);
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
};

const print = (value: unknown, indent: string): string => {
  const inner = `${indent}  `;
  if (Array.isArray(value) && value.some(isRecord))
    return `[\n${value.map((item) => inner + onOneLine(item)).join(',\n')}\n${indent}]`;
  const line = onOneLine(value);
  if (!isRecord(value) || (indent !== '' && line.length <= LINE_MAX)) return line;
  const entries = Object.entries(value).map(([key, part]) => `${inner}${JSON.stringify(key)}: ${print(part, inner)}`);
  return `{\n${entries.join(',\n')}\n${indent}}`;
};

/** `value` as JSON for people: records in lists one per line, other records broken up where they are long. */
export const printJson = (value: unknown): string => `${print(value, '')}\n`;
