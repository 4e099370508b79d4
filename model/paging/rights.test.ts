// Who may do what with a page, one directed case for each rule: rights, SMEP, SMAP, keys, error codes.
// Error codes: 1 present, 2 write, 4 user, 8 reserved, 16 fetch, 32 key. A first reader may skip the builders' file.

import {
  ALL,
  done,
  entry,
  fault,
  fetch,
  implicit,
  key,
  LONG_NO_NX,
  mode32,
  modePae,
  modify,
  native,
  NO_WP,
  NX,
  PAE,
  PKE,
  PKS,
  PS,
  PSE,
  READ_ONLY,
  rules,
  SMAP,
  SMEP,
  SUPERVISOR,
  supervisor,
  SUPERVISOR_READ_ONLY,
  tables32,
  tables4,
  tablesPae,
  write,
} from './samples.testing.ts';

const readOnly = tables4({ 1: entry(0x200, READ_ONLY) });
const supervisorOnly = tables4({ 1: entry(0x200, SUPERVISOR) });
const unexecutable = tables4({ 1: entry(0x200, ALL) + NX });

rules('what a page allows', [
  ['a user reads a user page', native(readOnly), done(0x20_0010)],
  ['a user does not read a supervisor page', native(supervisorOnly), fault(5)],
  ['one level without U/S is enough', native(tables4({ 4: entry(0x11, SUPERVISOR) })), fault(5)],
  ['a user does not write a read-only page', native(readOnly, {}, write), fault(7)],
  ['one level without R/W is enough', native(tables4({ 3: entry(0x12, READ_ONLY) }), {}, write), fault(7)],
  ['a read-modify-write faults as a write', native(readOnly, {}, modify), fault(7)],
  [
    'with WP a supervisor does not write a read-only user page',
    native(readOnly, {}, { ...write, ...supervisor }),
    fault(3),
  ],
  [
    'with WP nor a read-only supervisor page',
    native(tables4({ 1: entry(0x200, SUPERVISOR_READ_ONLY) }), {}, { ...write, ...supervisor }),
    fault(3),
  ],
  ['without WP a supervisor writes it', native(readOnly, { cr0: NO_WP }, { ...write, ...supervisor }), done(0x20_0010)],
  ['without WP a user still does not', native(readOnly, { cr0: NO_WP }, write), fault(7)],
  ['NX forbids fetches', native(unexecutable, {}, fetch), fault(0x15)],
  ['NX at one level is enough', native(tables4({ 2: entry(0x13, ALL) + NX }), {}, fetch), fault(0x15)],
  ['NX does not concern data', native(unexecutable), done(0x20_0010)],
  ['NX binds supervisors', native(unexecutable, {}, { ...fetch, ...supervisor }), fault(0x11)],
]);

rules('SMEP and SMAP', [
  [
    'SMEP: no supervisor fetch from a user page',
    native(tables4({}), { cr4: PAE + SMEP }, { ...fetch, ...supervisor }),
    fault(0x11),
  ],
  ['SMEP: user pages of users are not concerned', native(tables4({}), { cr4: PAE + SMEP }, fetch), done(0x20_0010)],
  [
    'SMEP: supervisor pages are not concerned',
    native(supervisorOnly, { cr4: PAE + SMEP }, { ...fetch, ...supervisor }),
    done(0x20_0010),
  ],
  [
    'SMEP holds in 32-bit paging and lights I/D there',
    native(tables32({}), { ...mode32, cr4: PSE + SMEP }, { ...fetch, ...supervisor }),
    fault(0x11),
  ],
  ['SMAP: no supervisor read of a user page', native(tables4({}), { cr4: PAE + SMAP }, supervisor), fault(1)],
  ['SMAP: AC lifts it', native(tables4({}), { cr4: PAE + SMAP }, { ...supervisor, ac: 'set' }), done(0x20_0010)],
  ['SMAP: AC does not lift it from implicit accesses', native(tables4({}), { cr4: PAE + SMAP }, implicit), fault(1)],
  [
    'SMAP: AC does not make a page writable',
    native(readOnly, { cr4: PAE + SMAP }, { ...write, ...supervisor, ac: 'set' }),
    fault(3),
  ],
  [
    'SMAP: without WP a write needs AC all the same',
    native(readOnly, { cr0: NO_WP, cr4: PAE + SMAP }, { ...write, ...supervisor }),
    fault(3),
  ],
  [
    'SMAP does not concern fetches',
    native(tables4({}), { cr4: PAE + SMAP }, { ...fetch, ...supervisor }),
    done(0x20_0010),
  ],
  ['SMAP holds in PAE paging', native(tablesPae({}), { ...modePae, cr4: PAE + SMAP }, supervisor), fault(1)],
  ['implicit accesses are supervisor accesses', native(supervisorOnly, {}, implicit), done(0x20_0010)],
  ['and U/S of the error code is 0 for them', native([], {}, implicit), fault(0)],
]);

const keyed = tables4({ 1: entry(0x200, ALL) + key(5) });
const keyedSupervisor = tables4({ 1: entry(0x200, SUPERVISOR) + key(5) });
const pke = { cr4: PAE + PKE, pkru: 2 ** 10 };
const pkeWrite = { cr4: PAE + PKE, pkru: 2 ** 11 };
const pks = { cr4: PAE + PKS, pkrs: 2 ** 10, pkru: 2 ** 10 };
const pksWrite = { cr4: PAE + PKS, pkrs: 2 ** 11 };
rules('protection keys', [
  ['access-disable forbids reads', native(keyed, pke), fault(0x25)],
  ['of that key only', native(tables4({}), pke), done(0x20_0010)],
  ['unless CR4.PKE is clear', native(keyed, { pkru: 2 ** 10 }), done(0x20_0010)],
  ['not fetches', native(keyed, pke, fetch), done(0x20_0010)],
  ['supervisors are bound on user pages', native(keyed, pke, supervisor), fault(0x21)],
  ['implicit accesses too', native(keyed, pke, implicit), fault(0x21)],
  ['PKRU does not concern supervisor pages', native(keyedSupervisor, pke, supervisor), done(0x20_0010)],
  ['write-disable lets reads pass', native(keyed, pkeWrite), done(0x20_0010)],
  ['write-disable forbids writes', native(keyed, pkeWrite, write), fault(0x27)],
  ['write-disable binds supervisors under WP', native(keyed, pkeWrite, { ...write, ...supervisor }), fault(0x23)],
  [
    'write-disable does not without WP',
    native(keyed, { ...pkeWrite, cr0: NO_WP }, { ...write, ...supervisor }),
    done(0x20_0010),
  ],
  [
    'PK tells of the key, also where R/W forbids as well',
    native(tables4({ 1: entry(0x200, READ_ONLY) + key(5) }), pkeWrite, write),
    fault(0x27),
  ],
  [
    'a large page has its key in the same place',
    native(tables4({ 2: entry(0x200, ALL + PS) + key(5) }), pke),
    fault(0x25),
  ],
  ['an absent page has no key', native(tables4({ 1: key(5) }), pke), fault(4)],
  ['PKS: supervisor pages by IA32_PKRS', native(keyedSupervisor, pks, supervisor), fault(0x21)],
  ['PKS does not concern user pages', native(keyed, pks, supervisor), done(0x20_0010)],
  ['PKS: a user access to a supervisor page faults without PK', native(keyedSupervisor, pks), fault(5)],
  [
    'PKS: write-disable forbids writes under WP',
    native(keyedSupervisor, pksWrite, { ...write, ...supervisor }),
    fault(0x23),
  ],
  [
    'PKS: write-disable does not without WP',
    native(keyedSupervisor, { ...pksWrite, cr0: NO_WP }, { ...write, ...supervisor }),
    done(0x20_0010),
  ],
  ['PAE paging has no keys', native(tablesPae({}), { ...modePae, ...pke, pkru: 1 }), done(0x20_0010)],
]);

rules('error codes of absent pages', [
  ['a read by a supervisor is 0', native([], {}, supervisor), fault(0)],
  ['a write by a user', native([], {}, write), fault(6)],
  ['a fetch is told with NXE', native([], {}, fetch), fault(0x14)],
  ['a fetch is not told without NXE and SMEP', native([], { efer: LONG_NO_NX }, fetch), fault(4)],
  ['a fetch is told with SMEP alone', native([], { efer: LONG_NO_NX, cr4: PAE + SMEP }, fetch), fault(0x14)],
  ['32-bit paging has no NX whatever NXE says', native([], mode32, fetch), fault(4)],
  ['PAE paging has', native(tablesPae({ 1: 0n }), modePae, fetch), fault(0x14)],
  [
    'an absent entry below a supervisor entry is absent',
    native(tables4({ 4: entry(0x11, SUPERVISOR), 1: 0n })),
    fault(4),
  ],
  ['the other bits of an absent entry mean nothing', native(tables4({ 1: -2n })), fault(4)],
]);
