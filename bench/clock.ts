// How things are timed: CPU time of this process, contestants in turn within each round, the best round of each. Ratios of
// bests within one run survive a busy machine; absolute figures do not. A first reader may skip it.

/** Something to be timed: does its work and answers how many units (operations) that was. */
export interface Contestant {
  readonly name: string;
  readonly work: () => number;
}

/** Best of all rounds: units per CPU second, and the CPU seconds and units of that round. */
export interface Timed {
  readonly name: string;
  readonly perSecond: number;
  readonly seconds: number;
  readonly units: number;
}

/** CPU seconds of this process so far, user and system. */
export const cpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Every contestant once per round, in an order that rotates; one more round before that is not counted. */
export function race(contestants: readonly Contestant[], rounds: number): readonly Timed[] {
  const best = new Map<string, Timed>();
  for (let round = -1; round < rounds; round += 1)
    contestants.forEach((_, i) => {
      const one = contestants[(i + round + 1) % contestants.length] as Contestant;
      const start = cpuSeconds();
      const units = one.work();
      const seconds = Math.max(cpuSeconds() - start, 1e-6);
      const perSecond = units / seconds;
      if (round >= 0 && perSecond > (best.get(one.name)?.perSecond ?? 0))
        best.set(one.name, { name: one.name, perSecond, seconds, units });
    });
  return contestants.map(({ name }) => best.get(name) ?? { name, perSecond: 0, seconds: 0, units: 0 });
}

/** Quotient of two contestants' bests. */
export function ratio(timed: readonly Timed[], of: string, to: string): number {
  const speed = (name: string): number => timed.find((one) => one.name === name)?.perSecond ?? 0;
  return speed(of) / Math.max(speed(to), 1e-9);
}
