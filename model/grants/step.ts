// Grants: a domain lets another one map or copy its frames. This file routes by kind and may be skipped.
// Sources: Xen common/grant_table.c; see README.md.

import type { GrantsOp } from '#abi/grants.ts';
import { end, performing, type Handler, type Handlers, type Perform } from '../progress.ts';
import { copyStep } from './copy.ts';
import { mapStep } from './map.ts';
import { mayGrant } from './native.ts';
import { query, setupTable } from './table.ts';
import { unmapStep } from './unmap.ts';

const handlers: Handlers<GrantsOp<'concrete'>> = {
  'grants.map': mapStep,
  'grants.unmap': unmapStep,
  'grants.replace': unmapStep,
  'grants.copy': copyStep,
  'grants.setupTable': setupTable,
  'grants.query': query,
};

/** How a grant operation goes on. A paravirtual guest without a grant table has none of them. */
export function grantsStep(op: GrantsOp<'concrete'>): Perform {
  const perform = performing(handlers[op.kind] as Handler<typeof op>, op);
  return (cut, task) => (mayGrant(cut.state, task) ? perform(cut, task) : end(cut, 'EPERM'));
}
