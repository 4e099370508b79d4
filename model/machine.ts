// The machine before anything happened: all frames free, no domain. Domains come into being by ordinary operations of
// the toolstack, so boot needs no rules of its own.

import type { Mfn } from '#abi/address.ts';
import { geometries, type Geometry } from '#abi/geometry.ts';
import type { Header } from '#abi/trace.ts';
import { vendorOf } from '#abi/vendor.ts';
import { Trie } from '#lib/trie.ts';
import { FREE, type Frame, type State } from './state.ts';

/** The frame that is never handed out, so that an implementation may let mfn 0 mean "none". */
export const XEN_MFN: Mfn = 0 as Mfn;

const xenFrame: Frame = { ...FREE, role: 'xen', allocated: true, refs: 1, incarnation: 1 };

/** The geometry of a trace: the named one with the header's counter widths. */
export const geometryOf = (header: Header): Geometry => {
  const geometry = geometries[header.geometry];
  return { ...geometry, width: { ...geometry.width, ...header.width } };
};

/** The state before boot. */
export const emptyMachine = (header: Header): State => ({
  geometry: geometryOf(header),
  policies: {
    flush: header.flush,
    scrub: header.scrub,
    scrubAt: header.scrubAt,
    pvPcids: header.pvPcids === 'on',
    pvLinear: header.pvLinear === 'on',
  },
  vendor: vendorOf(header),
  pcpus: header.pcpus,
  frames: Trie.empty<Frame>().set(XEN_MFN, xenFrame),
  words: Trie.empty(),
  domains: Trie.empty(),
  vcpus: Trie.empty(),
  contexts: Trie.empty(),
});
