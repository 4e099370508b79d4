// Grants: a domain lets another one map or copy its frames. This file routes by kind; see README.md for the sources.
// A first reader may begin with map.ts; what a pin and a handle are is in README.md.

import type { GrantsOp } from '#abi/grants.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { callerIn, isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { copyGrants } from './copy.ts';
import { mapGrants } from './map.ts';
import { query, setupTable } from './table.ts';
import { unmapGrants } from './unmap.ts';

/** Whether the caller has grant operations: of a paravirtual guest a processor, if the guest has a grant table. */
const mayGrant = (m: Machine, call: Call): boolean =>
  !isParavirtual(m, callerIn(call)) || (call.agent.kind === 'vcpu' && m.f.grantLimit.get(callerIn(call)) > 0);

/** A grant operation, from its call to its reply. */
export function* grantsStep(m: Machine, call: Call, op: GrantsOp<'concrete'>): Step<Reply> {
  if (!mayGrant(m, call)) return reply('EPERM');
  switch (op.kind) {
    case 'grants.map':
      return yield* mapGrants(m, call, op);
    case 'grants.unmap':
    case 'grants.replace':
      return yield* unmapGrants(m, call, op);
    case 'grants.copy':
      return yield* copyGrants(m, call, op);
    case 'grants.query':
      return query(m, call, op);
    case 'grants.setupTable':
      return yield* setupTable(m, call, op);
    default:
      return unreachable(op);
  }
}
