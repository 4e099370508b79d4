// The standing invariants: what must hold at every micro-step, whatever anybody does. Laws, failures, refusals of the
// model, exhibits and tables of the documentation all name them by these words.

/** Every standing invariant with its sentence. `refines` stands first: it is what a plain disagreement breaks. */
export const invariants = {
  refines: 'The implementation does what the model says: same replies, same state, only choices that were allowed.',
  OWN: 'No agent reaches a frame that it neither owns nor was granted.',
  MUST: 'What a domain is owed stays reachable at every micro-step.',
  PTW: 'No guest or device can write a frame in use as a page table or descriptor table.',
  FREE: 'Nothing that was made for one life of a frame is used in a later one.',
  ACT: 'Every load and store of the hypervisor lies within the authority of the one it acts for.',
  STALE: 'Nobody uses a translation after the flush that was owed for it.',
  REF: 'Every counter equals a recount.',
  DMA: 'What a device reaches is what ownership, type and reserved regions demand.',
  LOG: 'No write goes unnoticed while the writes of a domain are logged.',
  M2P: 'The map from machine to guest frames is the inverse of the map from guest to machine frames.',
  LEAK: 'No word written by one domain reaches another without authority.',
  WALK: 'Every walk gives what the architecture says.',
  STATUS: 'Replies and status bits that guests see match the state.',
  PRIV: 'Only those who may manage a domain manage it.',
  XEN: 'No value of a guest addresses memory of the hypervisor.',
  CRASH: 'No guest makes the hypervisor fail an assertion.',
  WORK: 'Every operation does a bounded amount of work between two preemption checks.',
  LOCK: 'No lock is kept, and none is awaited in a circle.',
  LIFE: 'A domain that is torn down leaves nothing behind.',
  ERR: 'A refused operation has its documented effects and no others.',
} as const;

export type Invariant = keyof typeof invariants;

export const invariantNames = Object.keys(invariants) as readonly Invariant[];
