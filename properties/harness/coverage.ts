// What a set of runs has reached: each reply of each operation, and how often each invariant was checked in each mechanism with
// something there to object to. A reply that is never reached, or an invariant that is never checked, is a blind spot of the
// generators. A first reader may skip this file.

import { invariantNames, type Invariant } from '#abi/invariants.ts';
import { elementRepliesOf, mechanisms, opKinds, repliesOf, type Mechanism, type OpKind } from '#abi/operation.ts';
import type { Settings } from './settings.ts';
import type { Returned } from './view.ts';

/** How often an operation answered so; `isElement`: an element of its batch. `isDeclared`: its table says that it can. */
export interface ReplyCount {
  readonly kind: OpKind;
  readonly isElement: boolean;
  readonly status: string;
  readonly isDeclared: boolean;
  readonly count: number;
}

const add = (counts: Map<string, number>, key: string): void => void counts.set(key, (counts.get(key) ?? 0) + 1);

/** Counts over runs; mutable, owned by whoever makes them. */
export class Coverage {
  readonly #replies = new Map<string, number>();
  readonly #checks = new Map<string, number>();

  /** What a run needs to be counted. */
  readonly settings: Pick<Settings, 'onReturn' | 'onLook'> = {
    onReturn: (returned) => this.#took(returned),
    onLook: (invariant, mechanism) => add(this.#checks, `${invariant} ${mechanism}`),
  };

  #took({ op, reply }: Returned): void {
    add(this.#replies, `${op.kind} ${reply.status}`);
    for (const { status } of reply.elements) add(this.#replies, `${op.kind}[] ${status}`);
  }

  /** Every reply that is declared or was heard, in the order of the tables; those that nobody declared come last. */
  replies(): readonly ReplyCount[] {
    return opKinds.flatMap((kind) => [
      ...this.#rows(kind, { isElement: false, declared: repliesOf(kind) }),
      ...this.#rows(kind, { isElement: true, declared: elementRepliesOf(kind) }),
    ]);
  }

  #rows(kind: OpKind, of: { isElement: boolean; declared: readonly string[] }): readonly ReplyCount[] {
    const prefix = `${kind}${of.isElement ? '[]' : ''} `;
    const heard = [...this.#replies.keys()]
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length));
    return [...new Set([...of.declared, ...heard])].map((status) => ({
      kind,
      isElement: of.isElement,
      status,
      isDeclared: of.declared.includes(status),
      count: this.#replies.get(prefix + status) ?? 0,
    }));
  }

  /** Checks of an invariant in a mechanism that were not vacuous. */
  checks(invariant: Invariant, mechanism: Mechanism): number {
    return this.#checks.get(`${invariant} ${mechanism}`) ?? 0;
  }

  /** All of them, a row for each invariant. */
  table(): readonly { readonly invariant: Invariant; readonly counts: Readonly<Record<Mechanism, number>> }[] {
    return invariantNames.map((invariant) => ({
      invariant,
      counts: Object.fromEntries(mechanisms.map((one) => [one, this.checks(invariant, one)])) as Record<
        Mechanism,
        number
      >,
    }));
  }
}
