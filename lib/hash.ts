// Integer hashing for state digests and semantic states: not cryptographic, the same on every machine.
// Mixing steps follow the finalizer of MurmurHash3 (Austin Appleby, public domain).

/** Mixes the bits of a 32-bit word; a bijection. Unsigned. */
export function mix(word: number): number {
  let h = word | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85eb_ca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2_ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Folds `value` into the running hash `seed`; the order of values matters. Unsigned 32 bits. */
export const fold = (seed: number, value: number): number =>
  mix(
    Math.imul(seed ^ (seed >>> 15), 0x9e37_79b1) ^
      (value | 0) ^
      Math.imul(Math.floor(value / 0x1_0000_0000), 0x27d4_eb2f),
  );

/** Hash of a string's UTF-16 units; unsigned 32 bits. */
export function hashText(text: string): number {
  let h = 0x811c_9dc5;
  for (let i = 0; i < text.length; i += 1) h = Math.imul(h ^ text.charCodeAt(i), 0x0100_0193);
  return mix(h);
}

/** Hash of `length` words of an Int32Array from `start`; unsigned 32 bits. */
export function hashWords(words: Int32Array, start: number, length: number): number {
  let h = length | 0;
  for (let i = start; i < start + length; i += 1) h = Math.imul(h ^ (words[i] ?? 0), 0x0100_0193) ^ (h >>> 15);
  return mix(h);
}
