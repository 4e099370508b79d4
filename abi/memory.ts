// Memory operations and the life of domains: what guests, the control domain and the background can ask.
// Sources: Xen public/memory.h (XENMEM_*), public/domctl.h (XEN_DOMCTL_*).
//
// `start` is the continuation of a preempted batch, held in the caller's registers as in Xen: 0 in a first call, the done
// count when a preempted call is taken up again, and anything at all when forged.

import {
  bufferField,
  countField,
  domainField,
  extentsField,
  gfnField,
  orderField,
  startField,
  type OpsOf,
} from './field.ts';
import { p2mAccesses } from './hap.ts';
import type { Phase } from './operand.ts';

/** Where what is put at a gfn comes from (XENMAPSPACE_*). */
export const memorySpaces = ['sharedInfo', 'grantTable', 'gmfn', 'gmfnForeign', 'devMmio'] as const;

/** The same by batch, which ranges are not. */
export const batchSpaces = [...memorySpaces, 'gmfnRange'] as const;

/** What a device model can make of a gfn: RAM, RAM that is only read, what a device model emulates; the last one is refused. */
export const memTypes = ['ramRw', 'ramRo', 'mmioDm', 'unused'] as const;

/** What a call can leave of the rights of gfns: one of these, or what the domain's new entries get (XENMEM_access_*). */
export const memAccesses = [...p2mAccesses, 'default'] as const;

/** So many gfns or frames one call can name. */
const rangeField = { type: 'int', min: 0, max: 4096 } as const;
const resumingField = { type: 'oneOf', values: ['anew', 'resuming'] } as const;
const frameField = { type: 'frame' } as const;
const accessScopeField = { type: 'oneOf', values: ['gfns', 'default'] } as const;

export const memoryOps = {
  'memory.populate': {
    says: 'populates {extents} of {target} with order {order} from {start}',
    replies: ['ok', 'preempted', 'E2BIG', 'ESRCH', 'EFAULT', 'EINVAL', 'ENOMEM'],
    fields: { target: domainField, extents: extentsField, order: orderField, start: startField },
  },
  'memory.populateOnDemand': {
    says: 'lets {extents} of {target} with order {order} be populated on demand from {start}',
    replies: ['ok', 'preempted', 'E2BIG', 'ESRCH', 'EFAULT', 'EINVAL', 'EBUSY', 'ENOMEM', 'ENOTEMPTY'],
    fields: { target: domainField, extents: extentsField, order: orderField, start: startField },
  },
  'memory.increase': {
    says: 'gives {target} {count} extents of order {order} outside its address space from {start}',
    replies: ['ok', 'preempted', 'E2BIG', 'ESRCH', 'EINVAL', 'ENOMEM'],
    fields: { target: domainField, count: countField, order: orderField, start: startField },
  },
  'memory.decrease': {
    says: 'takes {extents} of order {order} from {target} from {start}',
    replies: ['ok', 'preempted', 'E2BIG', 'ESRCH', 'EFAULT', 'EINVAL', 'ENOENT', 'ENXIO', 'ENOMEM'],
    fields: { target: domainField, extents: extentsField, order: orderField, start: startField },
  },
  /**
   * `start`: nr_exchanged, in elements of `given`. `before`: 0; or else nr_exchanged is so many less than the largest number of 64 bits, and
   * both lists are said to have as many elements as that.
   */
  'memory.exchange': {
    says: 'exchanges {given} of order {givenOrder} of {target} for {taken} of order {takenOrder} from {start} ({before} before the end)',
    replies: ['ok', 'preempted', 'E2BIG', 'EINVAL', 'ESRCH', 'EFAULT', 'EOPNOTSUPP', 'ENOMEM'],
    fields: {
      target: domainField,
      given: extentsField,
      givenOrder: orderField,
      taken: extentsField,
      takenOrder: orderField,
      start: startField,
      before: { type: 'int', min: 0, max: 64 },
    },
  },
  'memory.addToPhysmap': {
    says: 'puts {space} {index} (of {foreign}) at {gfn} of {target}',
    replies: ['ok', 'ESRCH', 'ENXIO', 'EINVAL', 'EACCES', 'EBUSY', 'ENOMEM'],
    fields: {
      target: domainField,
      space: { type: 'oneOf', values: memorySpaces },
      foreign: domainField,
      index: gfnField,
      gfn: gfnField,
    },
  },
  /** XENMAPSPACE_gmfn_range: so many gfns of the target's own. */
  'memory.addRange': {
    says: 'puts {count} gfns of {target} from {index} on at {gfn} from {start}',
    replies: ['ok', 'preempted', 'ESRCH', 'ENXIO', 'EINVAL', 'EACCES', 'ENOMEM', 'EILSEQ', 'EOVERFLOW'],
    fields: { target: domainField, index: gfnField, gfn: gfnField, count: rangeField, start: startField },
  },
  /** XENMEM_add_to_physmap_batch: as many as there are `indices`. What became of each is told in `results`, a word each (null: in none). */
  'memory.addBatch': {
    says: 'puts {space} {indices} (of {foreign}) at {gfns} of {target} from {start}, told in {results}',
    replies: ['ok', 'preempted', 'E2BIG', 'ESRCH', 'EFAULT', 'EINVAL', 'EACCES', 'EILSEQ', 'EOPNOTSUPP'],
    elements: ['ok', 'EPERM', 'ESRCH', 'ENXIO', 'EINVAL', 'EBUSY', 'ENOMEM'],
    fields: {
      target: domainField,
      space: { type: 'oneOf', values: batchSpaces },
      foreign: domainField,
      indices: extentsField,
      gfns: extentsField,
      results: bufferField,
      start: startField,
    },
  },
  'memory.removeFromPhysmap': {
    says: 'removes {gfn} of {target}',
    replies: ['ok', 'ESRCH', 'ENOENT', 'EACCES', 'ENOMEM'],
    fields: { target: domainField, gfn: gfnField },
  },
  'memory.reservation': {
    says: 'asks for the page count of {target}',
    replies: ['ok', 'ESRCH'],
    fields: { target: domainField },
  },
  'memory.createDomain': {
    says: 'creates {target}{guest} with {vcpus} vCPUs, {maxPages} pages at most, {grantFrames} grant frames',
    replies: ['ok', 'EINVAL', 'EEXIST', 'ENOMEM'],
    fields: {
      target: domainField,
      vcpus: { type: 'int', min: 1, max: 8 },
      maxPages: { type: 'int', min: 0, max: 4096 },
      grantFrames: { type: 'int', min: 0, max: 64 },
      /** On nested paging, or paravirtual. */
      guest: { type: 'oneOf', values: ['hvm', 'pv'], absent: 'hvm' },
    },
  },
  'memory.pauseDomain': {
    says: 'pauses {target}',
    replies: ['ok', 'ESRCH', 'EINVAL'],
    fields: { target: domainField },
  },
  'memory.unpauseDomain': {
    says: 'unpauses {target}',
    replies: ['ok', 'ESRCH', 'EINVAL'],
    fields: { target: domainField },
  },
  'memory.killDomain': {
    says: 'kills {target}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL'],
    fields: { target: domainField },
  },
  'memory.setMaxPages': {
    says: 'limits {target} to {maxPages} pages',
    replies: ['ok', 'ESRCH'],
    fields: { target: domainField, maxPages: { type: 'int', min: 0, max: 4096 } },
  },
  'memory.setPool': {
    says: 'sets the paging pool of {target} to {frames} frames',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'EBUSY', 'ENOMEM'],
    fields: { target: domainField, frames: { type: 'int', min: 0, max: 4096 } },
  },
  /** XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY. */
  'memory.enableLogDirty': {
    says: 'logs the writes of {target}',
    replies: ['ok', 'ESRCH', 'EINVAL', 'EBUSY'],
    fields: { target: domainField },
  },
  /** XEN_DOMCTL_SHADOW_OP_OFF. `resuming`: the continuation of a preempted call, whose progress the hypervisor keeps. */
  'memory.disableLogDirty': {
    says: 'logs the writes of {target} no more, {resuming}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'EBUSY'],
    fields: { target: domainField, resuming: resumingField },
  },
  /** XEN_DOMCTL_SHADOW_OP_CLEAN and _PEEK. A bit for each gfn below `pages`, dirtyBits in a word; `bitmap` null: none is told. */
  'memory.logDirty': {
    says: '{action} the log of {pages} gfns of {target} into {bitmap}, {resuming}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'EBUSY', 'ENOMEM', 'EFAULT'],
    fields: {
      target: domainField,
      action: { type: 'oneOf', values: ['cleans', 'peeks'] },
      pages: rangeField,
      bitmap: bufferField,
      resuming: resumingField,
    },
  },
  /** XEN_DMOP_modified_memory, of one extent. */
  'memory.modifiedMemory': {
    says: 'has written {count} gfns of {target} from {gfn} on, from {start}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL'],
    fields: { target: domainField, gfn: gfnField, count: rangeField, start: startField },
  },
  /** XEN_DMOP_set_mem_type. */
  'memory.setMemType': {
    says: 'makes {count} gfns of {target} from {gfn} on {type} from {start}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'ENOMEM'],
    fields: {
      target: domainField,
      gfn: gfnField,
      count: rangeField,
      type: { type: 'oneOf', values: memTypes },
      start: startField,
    },
  },
  /** XENMEM_access_op_set_access. `scope` default: what new entries get; no gfn is touched then. `start` counts in whole stretches between checks. */
  'memory.setMemAccess': {
    says: 'leaves {access} of {scope} of {target}: {count} from {gfn} on, from {start}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'ENODEV', 'ENOMEM'],
    fields: {
      target: domainField,
      scope: accessScopeField,
      gfn: gfnField,
      count: rangeField,
      access: { type: 'oneOf', values: memAccesses },
      start: startField,
    },
  },
  /** XENMEM_access_op_get_access. */
  'memory.memAccess': {
    says: 'asks what is left of {scope} of {target}: {gfn}',
    replies: ['ok', 'ESRCH', 'EINVAL', 'ENODEV'],
    fields: { target: domainField, scope: accessScopeField, gfn: gfnField },
  },
  /** XEN_DOMCTL_vm_event_op, for the monitor: somebody is told of accesses beyond what was left, and each waits for the answer. */
  'memory.monitor': {
    says: '{action} to what is kept from {target}',
    replies: ['ok', 'ESRCH', 'EINVAL', 'EBUSY', 'EOPNOTSUPP'],
    fields: { target: domainField, action: { type: 'oneOf', values: ['listens', 'stops listening'] } },
  },
  /** XEN_DOMCTL_set_access_required: whether a domain that nobody listens to is stopped for such an access. */
  'memory.setAccessRequired': {
    says: 'requires a listener for {target}: {required}',
    replies: ['ok', 'ESRCH'],
    fields: { target: domainField, required: { type: 'oneOf', values: ['no', 'yes'] } },
  },
  /** XEN_DOMCTL_iomem_permission. */
  'memory.iomemPermission': {
    says: 'lets {target} map {count} device frames from {frame} on: {allow}',
    replies: ['ok', 'ESRCH', 'EINVAL'],
    fields: {
      target: domainField,
      frame: frameField,
      count: rangeField,
      allow: { type: 'oneOf', values: ['no', 'yes'] },
    },
  },
  /** XEN_DOMCTL_memory_mapping. `start`: what an earlier call came to; Xen's caller moves both numbers on by it. */
  'memory.mapMmio': {
    says: '{action} device frames of {target}: {count} from {frame} on at {gfn} from {start}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'ENOMEM'],
    fields: {
      target: domainField,
      action: { type: 'oneOf', values: ['maps', 'unmaps'] },
      gfn: gfnField,
      frame: frameField,
      count: rangeField,
      start: startField,
    },
  },
  'memory.setPodTarget': {
    says: 'sets the target of {target} to {pages} pages, those on demand among them',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'ENOMEM', 'ENOTEMPTY'],
    fields: { target: domainField, pages: { type: 'int', min: 0, max: 4096 } },
  },
  'memory.podTarget': {
    says: 'asks for the pages of {target}, those on demand among them',
    replies: ['ok', 'ESRCH', 'EINVAL'],
    fields: { target: domainField },
  },
  /** XENMEM_claim_pages. `pages`: that the domain will have in all; 0: it claims nothing any more. */
  'memory.claimPages': {
    says: 'claims frames for {target} to have {pages} pages',
    replies: ['ok', 'EINVAL', 'ENOMEM'],
    fields: { target: domainField, pages: { type: 'int', min: 0, max: 4096 } },
  },
  'memory.scrub': { says: 'scrubs up to {frames} free frames', replies: ['ok'], fields: { frames: countField } },
} as const;

export type MemoryOp<P extends Phase> = OpsOf<typeof memoryOps, P>;
