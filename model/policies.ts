// What the hypervisor is told when it boots, and keeps to.
// A first reader may skip it.

export interface Policies {
  readonly flush: 'eager' | 'lazy';
  readonly scrub: 'always' | 'dying';
  readonly scrubAt: 'free' | 'later';
  /** Kernel and user of a paravirtual guest have PCIDs of their own. */
  readonly pvPcids: boolean;
  /** Tables of paravirtual guests may lead to tables of their own level. */
  readonly pvLinear: boolean;
}
