// Which frames of devices a domain may be given at gfns: one bit for each. The control domain begins with all of them.
// A first reader may skip it. Source: Xen xen/iocap.h (iomem_access_permitted), arch/x86/dom0_build.c (dom0_setup_permissions).

import { DOMID_CONTROL } from '#abi/address.ts';
import type { Machine } from '../machine.ts';
import { exists } from './target.ts';

/** What a new domain begins with: the control domain with all devices, others with none. */
export function resetPermissions(m: Machine, dom: number): void {
  const { deviceFrames } = m.geometry;
  const is = dom === DOMID_CONTROL ? 1 : 0;
  for (let i = 0; i < deviceFrames; i += 1) m.f.domIomem.set(dom * deviceFrames + i, is);
}

/** Whether `dom` may be given any device at all. */
export function isPermittedSome(m: Machine, dom: number): boolean {
  const { deviceFrames } = m.geometry;
  if (!exists(m, dom)) return false;
  for (let at = dom * deviceFrames; at < (dom + 1) * deviceFrames; at += 1) if (m.f.domIomem.get(at) !== 0) return true;
  return false;
}

/** Whether `dom` may have `count` frames from `mfn` on, every one of which is a device's. */
export function isPermitted(m: Machine, dom: number, { mfn, count }: { readonly mfn: number; count: number }): boolean {
  const { frameCount, deviceFrames } = m.geometry;
  if (count <= 0 || mfn < frameCount || mfn + count > frameCount + deviceFrames || !exists(m, dom)) return false;
  const first = dom * deviceFrames + mfn - frameCount;
  for (let at = first; at < first + count; at += 1) if (m.f.domIomem.get(at) === 0) return false;
  return true;
}
