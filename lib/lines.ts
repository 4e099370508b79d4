// Files of results: one JSON value per line, only ever appended to. Whoever appends may be killed in the middle of a line.
// A first reader may skip this file.

/** The values of all lines that can be read, oldest first. */
export const valuesIn = (text: string): readonly unknown[] =>
  text.split('\n').flatMap((line): readonly unknown[] => {
    try {
      return [JSON.parse(line)];
    } catch {
      return [];
    }
  });

/** What to append to `text` for a value: a line of its own even if the last one was cut off. */
export const lineAfter = (text: string, value: unknown): string =>
  `${text === '' || text.endsWith('\n') ? '' : '\n'}${JSON.stringify(value)}\n`;
