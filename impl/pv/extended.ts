// mmuext_op: what a paravirtual guest asks for besides writing entries. The control domain can ask for pins of others' tables alone.
// A first reader may begin with pins.ts and roots.ts. Source: Xen arch/x86/mm.c (do_mmuext_op).

import type { DomId } from '#abi/address.ts';
import type { VcpuAgent } from '#abi/agents.ts';
import type { MmuextCommand, PvOp } from '#abi/pv.ts';
import { reply, type Reply } from '#abi/reply.ts';
import { unreachable } from '#lib/invariant.ts';
import type { Call } from '../execution.ts';
import type { Machine } from '../machine.ts';
import { isPermittedSome } from '../memory/permissions.ts';
import { callerIn, isParavirtual } from '../memory/target.ts';
import type { Step } from '../port.ts';
import { flushFor } from './flush.ts';
import { keyOf, mayChange, ownerIn, paravirtualIn } from './owner.ts';
import { clearPage, copyPage } from './pages.ts';
import { begin, conclude, type Outcome } from './parked.ts';
import { pin, unpin } from './pins.ts';
import { newRoot, newUserRoot } from './roots.ts';

type Mmuext = Extract<PvOp<'concrete'>, { kind: 'pv.mmuext' }>;
type Element = Mmuext['elements'][number];
type PinCommand = 'pinL1' | 'pinL2' | 'pinL3' | 'pinL4' | 'unpin';

const levels = { pinL1: 1, pinL2: 2, pinL3: 3, pinL4: 4 } as const;

const isPinning = (command: MmuextCommand): command is PinCommand => command === 'unpin' || command in levels;

/** The whole batch, up to its end, a failure or a preemption. */
export function* mmuext(m: Machine, call: Call, op: Mmuext): Step<Reply> {
  if ((yield* begin(m, call)) !== undefined) return reply('preempted', { done: op.start });
  const owner = ownerIn(m, call, op.owner);
  if (owner === 'ESRCH') return reply(owner);
  if (!isParavirtual(m, owner)) return reply('EINVAL');
  if (!mayChange(call, owner)) return reply('EPERM');
  const life = m.f.domLife.get(owner);
  for (let index = op.start; index < op.elements.length; index += 1) {
    if (index > op.start && m.port.preempts(index)) return reply('preempted', { done: index });
    const outcome = yield* perform(m, call, { owner, life, element: op.elements[index] as Element });
    const answer = yield* conclude(m, call, { outcome, index });
    if (answer !== undefined) return answer;
  }
  return reply('ok', { done: Math.max(op.start, op.elements.length) });
}

function* perform(
  m: Machine,
  call: Call,
  { owner, life, element }: { readonly owner: DomId; readonly life: number; readonly element: Element },
): Step<Outcome> {
  const { command, frame } = element;
  if (isPinning(command)) {
    const pinning = { owner, life, caller: callerIn(call), frame };
    return command === 'unpin' ? yield* unpin(m, pinning) : yield* pin(m, levels[command], pinning);
  }
  const agent = paravirtualIn(m, call);
  return agent === undefined ? 'EOPNOTSUPP' : yield* performOwn(m, agent, { ...element, owner, command });
}

/** What a paravirtual guest can ask for itself, and of nobody else: whose memory is meant is the caller by now. */
function* performOwn(
  m: Machine,
  agent: VcpuAgent,
  element: Element & { readonly owner: DomId; readonly command: Exclude<MmuextCommand, PinCommand> },
): Step<Outcome> {
  const { command, owner, frame, source } = element;
  switch (command) {
    case 'newBaseptr':
      return yield* newRoot(m, keyOf(m, agent), frame);
    case 'newUserBaseptr':
      return yield* newUserRoot(m, keyOf(m, agent), frame);
    case 'tlbFlushLocal':
    case 'invlpgLocal':
    case 'tlbFlushMulti':
    case 'invlpgMulti':
    case 'tlbFlushAll':
    case 'invlpgAll':
      return yield* flush(m, agent, { ...element, command });
    case 'flushCache':
    case 'flushCacheGlobal':
      return isPermittedSome(m, owner) ? undefined : 'EACCES';
    case 'clearPage':
      return yield* clearPage(m, owner, frame);
    case 'copyPage':
      return yield* copyPage(m, owner, { source, mfn: frame });
    case 'markSuper':
    case 'unmarkSuper':
      return 'EOPNOTSUPP';
    case 'unknown':
      return 'ENOSYS';
    default:
      return unreachable(command);
  }
}

type FlushCommand = 'tlbFlushLocal' | 'invlpgLocal' | 'tlbFlushMulti' | 'invlpgMulti' | 'tlbFlushAll' | 'invlpgAll';

function* flush(
  m: Machine,
  agent: VcpuAgent,
  { command, page, vcpus }: Pick<Element, 'page' | 'vcpus'> & { readonly command: FlushCommand },
): Step<undefined> {
  const what = command.startsWith('tlb') ? 'everything' : { page };
  const whose = command.endsWith('Local') ? 'own' : command.endsWith('All') ? 'all' : { vcpus };
  yield* flushFor(m, agent, { whose, what });
  return undefined;
}
