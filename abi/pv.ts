// Direct paging: how a paravirtual guest asks for changes of its own page tables, which its processors walk as they stand. Frames
// are named by the machine; gfns of these operations are linear frames. A batch ends with its first failing element.
// Guests are 64-bit. Sources: Xen public/xen.h (MMU_*, MMUEXT_*, UVMF_*), public/domctl.h (XEN_DOMCTL_setvcpucontext).

import { domainField, gfnField, startField, type OpsOf } from './field.ts';
import type { Phase } from './operand.ts';

/**
 * What a frame is typed as (PGT_*), in the order of codes: nothing, memory that may be written, tables by level, segment descriptors. The
 * root's type is the level of the geometry's root; types of tables above it are never used.
 */
export const frameTypes = ['none', 'writable', 'l1', 'l2', 'l3', 'l4', 'descriptors'] as const;

export type FrameType = (typeof frameTypes)[number];

/** The type of tables at `level`, 1 the lowest. */
export const tableType = (level: number): FrameType => frameTypes[level + 1] ?? 'none';

/** The level of tables of a type; 0: they are none. */
export const levelOfType = (type: FrameType): number =>
  type === 'descriptors' ? 0 : Math.max(frameTypes.indexOf(type) - 1, 0);

/** Whether processors trust what a frame of the type holds: its guest must not write it. */
export const isTrusted = (type: FrameType): boolean => type === 'descriptors' || levelOfType(type) > 0;

/** Commands of mmu_update: write an entry, name the guest's frame of a machine frame, write and keep A and D; and none. */
export const mmuCommands = ['normal', 'machphys', 'preserveAd', 'noTranslate', 'unknown'] as const;

/** Commands of mmuext_op, and none. */
export const mmuextCommands = [
  'pinL1', 'pinL2', 'pinL3', 'pinL4', 'unpin', 'newBaseptr', 'newUserBaseptr',
  'tlbFlushLocal', 'invlpgLocal', 'tlbFlushMulti', 'invlpgMulti', 'tlbFlushAll', 'invlpgAll',
  'flushCache', 'flushCacheGlobal', 'clearPage', 'copyPage', 'markSuper', 'unmarkSuper', 'unknown',
] as const; // prettier-ignore

export type MmuextCommand = (typeof mmuextCommands)[number];

/**
 * Bits of entries that Xen looks at itself. In the low half: memory types of a leaf, and what is left to guests; in the high half:
 * what is left to guests, of which the lowest is Xen's mark of a page of the guest's kernel.
 */
export const pvBits = {
  writeThrough: 3,
  cacheDisable: 4,
  attribute: 7,
  availableFrom: 9,
  availableCount: 3,
  availableHighFrom: 52 - 32,
  availableHighCount: 11,
  guestKernelHigh: 52 - 32,
} as const;

/** What a guest may have the hypervisor do for it unasked (VMASST_*), the last of which is nothing that there is. */
export const vmAssists = ['writablePagetables', 'architecturalIopl', 'runstateUpdateFlag', 'unknown'] as const;

/** Where PCIDs tell them apart: those of a guest's kernel and of its user (PCID_PV_PRIV, PCID_PV_USER). */
export const pvPcids = { kernel: 0, user: 1 } as const;

/** Elements of a batch in a trace at most. */
const BATCH_MAX = 16;

const frameField = { type: 'frame' } as const;

/** A bit for each vCPU. */
const vcpusField = { type: 'int', min: 0, max: 0xff } as const;

export const pvOps = {
  /** `index`: the entry in the frame, of as many as a frame has words. */
  'pv.mmuUpdate': {
    says: 'updates {elements} for {owner} from {start}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'EACCES', 'EBUSY', 'EOPNOTSUPP', 'ENOSYS'],
    fields: {
      elements: {
        type: 'list',
        max: BATCH_MAX,
        of: {
          command: { type: 'oneOf', values: mmuCommands },
          frame: frameField,
          index: { type: 'int', min: 0, max: 511 },
          value: { type: 'word' },
        },
      },
      owner: domainField,
      start: startField,
    },
  },
  /** `page`: the linear frame of an INVLPG; `source`: of a copy; `vcpus`: who is flushed by the commands for several. */
  'pv.mmuext': {
    says: 'asks for {elements} for {owner} from {start}',
    replies: ['ok', 'preempted', 'ESRCH', 'EINVAL', 'EACCES', 'EBUSY', 'EOPNOTSUPP', 'ENOSYS'],
    fields: {
      elements: {
        type: 'list',
        max: BATCH_MAX,
        of: {
          command: { type: 'oneOf', values: mmuextCommands },
          frame: frameField,
          source: frameField,
          page: gfnField,
          vcpus: vcpusField,
        },
      },
      owner: domainField,
      start: startField,
    },
  },
  /** update_va_mapping, or with another owner update_va_mapping_otherdomain. */
  'pv.updateVaMapping': {
    says: 'maps linear {page} by {value} to memory of {owner}, flushing {flush} on {on} (vCPUs {vcpus})',
    replies: ['ok', 'ESRCH', 'EINVAL', 'EACCES', 'EBUSY', 'ENOSYS'],
    fields: {
      page: gfnField,
      value: { type: 'word' },
      flush: { type: 'oneOf', values: ['nothing', 'everything', 'page'] },
      on: { type: 'oneOf', values: ['local', 'all', 'some'] },
      vcpus: vcpusField,
      owner: domainField,
    },
  },
  /** Lets a vCPU of a paravirtual guest begin with a root; vCPU 0 as one of a guest that writes its tables, or that does not. */
  'pv.setContext': {
    says: 'lets vCPU {vcpu} of {target} begin{by} with the root in {frame}',
    replies: ['ok', 'ESRCH', 'EINVAL', 'EACCES', 'EBUSY', 'EOPNOTSUPP'],
    fields: {
      target: domainField,
      vcpu: { type: 'vcpu' },
      frame: frameField,
      by: { type: 'oneOf', values: ['asker', 'writer'], absent: 'asker' },
    },
  },
  /** The caller's own GDT: so many descriptors, in these frames. */
  'pv.setGdt': {
    says: 'loads a GDT of {entries} descriptors in {frames}',
    replies: ['ok', 'EINVAL', 'EFAULT', 'ENOSYS'],
    fields: {
      frames: { type: 'list', max: BATCH_MAX, of: { frame: frameField } },
      entries: { type: 'int', min: 0, max: 0xffff },
    },
  },
  /** The caller's own LDT (MMUEXT_SET_LDT): so many descriptors from a linear frame on. */
  'pv.setLdt': {
    says: 'has its LDT of {entries} descriptors from linear {page} on',
    replies: ['ok', 'EINVAL'],
    fields: { page: gfnField, entries: { type: 'int', min: 0, max: 0xffff } },
  },
  /** Its processor reads a descriptor of the LDT: no call, whatever its mode. */
  'pv.loadSegment': {
    says: 'loads the segment of descriptor {index} of its LDT',
    replies: ['ok', 'generalProtection', 'pageFault'],
    fields: { index: { type: 'int', min: 0, max: 0x1fff } },
  },
  /** `offset`: bytes past the word `index`: descriptors lie at whole words. */
  'pv.updateDescriptor': {
    says: 'writes the descriptor {value} at {index} (byte {offset}) of {frame}',
    replies: ['ok', 'EINVAL', 'ENOSYS'],
    fields: {
      frame: frameField,
      index: { type: 'int', min: 0, max: 511 },
      offset: { type: 'int', min: 0, max: 7 },
      value: { type: 'word' },
    },
  },
  'pv.vmAssist': {
    says: '{command}s the assist {assist}',
    replies: ['ok', 'EINVAL', 'ENOSYS'],
    fields: {
      command: { type: 'oneOf', values: ['enable', 'disable', 'unknown'] },
      assist: { type: 'oneOf', values: vmAssists },
    },
  },
} as const;

export type PvOp<P extends Phase> = OpsOf<typeof pvOps, P>;
