// What a machine frame is for. The model assigns roles; authority and hypervisor access rules are stated over them.
// Sources: Xen xen/include/xen/mm.h (owners), public/memory.h (spaces of add_to_physmap).

/** Roles in the order of their codes; the implementation stores the index. */
export const frameRoles = [
  'free',
  'ram',
  'sharedInfo',
  'grantFrame',
  'statusFrame',
  'apicAccess',
  'requestPage',
  'overlay',
  'pool',
  'mmio',
  'xen',
  'inHand',
] as const;

/**
 * free: in the heap. ram: guest memory. sharedInfo, grantFrame, statusFrame, apicAccess, requestPage, overlay: hypervisor
 * pages that one guest may map. pool: the paging pool of a domain, nested page tables among it. mmio: device registers.
 * xen: the hypervisor's own data (domain structure, maptrack). inHand: on its way from a guest to the heap or from there to a guest, in an
 * exchange: nobody's memory.
 */
export type FrameRole = (typeof frameRoles)[number];

/** Roles that add_to_physmap may put into the owner's P2M, RAM included, as the implementation has it. What may be seen: model/entitlement.ts. */
export const guestVisibleRoles: readonly FrameRole[] = ['ram', 'sharedInfo', 'grantFrame', 'statusFrame', 'overlay'];
