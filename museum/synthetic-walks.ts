// Synthetic mutants of the walks of whole accesses: impl/paging and the two-dimensional walks of impl/hap. One rule each.
// What synthetic mutants are is in synthetic.ts. A first reader may skip the edits.
// Sources of the rules: Intel SDM vol. 3A, "Paging"; vol. 3C, "Extended-Page-Table Mechanism"; AMD APM vol. 2, "Nested Paging".

import type { Mutant } from './synthetic.ts';

const PAGING = 'paging/accessesAgree';
const HAP = 'hap/guestAccessesAgree';

type Short = Pick<Mutant, 'title' | 'mechanism' | 'breaks'> & { readonly name: string; readonly in: string };

/** One edit; `paging` is shared by all engines, `hap` is behind nested tables alone. */
const mutant = ({ name, title, mechanism, breaks, in: file }: Short, before: string, after: string): Mutant => ({
  id: `synthetic-${name}`,
  title,
  mechanism,
  breaks,
  by: 'cases',
  edits: [{ file, before, after }],
  killedBy: mechanism === 'paging' ? [PAGING, HAP] : [HAP],
});

const native = (name: string, title: string, breaks: Mutant['breaks'], file: string): Short => ({
  name,
  title,
  breaks,
  mechanism: 'paging',
  in: `paging/${file}.ts`,
});
const nested = (name: string, title: string, breaks: Mutant['breaks'], file: string): Short => ({
  name,
  title,
  breaks,
  mechanism: 'hap',
  in: `hap/${file}.ts`,
});

const reserved: readonly Mutant[] = [
  mutant(native('reserved-2mb', 'Bit 13 of a 2 MiB entry is not reserved', 'reserved bits', 'native-walker'), 'reserved2Mb: 0x1f_e000,', 'reserved2Mb: 0x1f_c000,'), // prettier-ignore
  mutant(native('reserved-1gb', 'Bit 29 of a 1 GiB entry is not reserved', 'reserved bits', 'rules'), '0x3fff_e000 : 0x80', '0x1fff_e000 : 0x80'), // prettier-ignore
  mutant(native('reserved-4mb', 'PSE-36 takes one bit beyond MAXPHYADDR', 'reserved bits', 'rules'), 'Math.min(maxPhysAddr, 40) - 19;', 'Math.min(maxPhysAddr, 40) - 18;'), // prettier-ignore
  mutant(native('reserved-upper-size', 'Bit 7 of PML4 and PML5 entries is not reserved', 'reserved bits', 'rules'), 'upperBit8 ? 0x180 : 0x80', 'upperBit8 ? 0x100 : 0'), // prettier-ignore
  mutant(native('reserved-upper-global', 'Bit 8 of PML4 and PML5 entries of AMD is not reserved', 'reserved bits', 'rules'), 'upperBit8 ? 0x180 : 0x80', '0x80'), // prettier-ignore
  mutant(native('reserved-no-1gb', 'Processors without 1 GiB pages have them', 'reserved bits', 'rules'), "p.page1Gb === 'present' ? 0x3fff_e000 : 0x80", '0x3fff_e000'), // prettier-ignore
  mutant(native('reserved-pae-high', 'Bits 62:52 of PAE entries are ignored', 'reserved bits', 'rules'), 'levels === 3 ? ABOVE_FRAME : 0', '0'), // prettier-ignore
  mutant(native('reserved-no-nxe', 'Bit 63 is ignored without EFER.NXE', 'reserved bits', 'rules'), 'or(or(beyond, above), nxe ? 0 : NX_HIGH)', 'or(beyond, above)'), // prettier-ignore
  mutant(native('reserved-width', 'One bit beyond MAXPHYADDR is ignored', 'reserved bits', 'rules'), 'without(0xf_ffff, pow2(p.maxPhysAddr - 32) - 1);', 'without(0xf_ffff, pow2(p.maxPhysAddr - 31) - 1);'), // prettier-ignore
  mutant(native('reserved-pdpte-low', 'Bits 2:1 of PDPTEs are ignored', 'reserved bits', 'rules'), 'const PDPTE_LOW = 0x1e6;', 'const PDPTE_LOW = 0x1e0;'), // prettier-ignore
  mutant(native('reserved-pdpte-width', 'PDPTEs may name frames beyond MAXPHYADDR', 'reserved bits', 'rules'), '(and(low, PDPTE_LOW) !== 0 || isTooWideHigh(high, maxPhysAddr))', 'and(low, PDPTE_LOW) !== 0 && maxPhysAddr > 0'), // prettier-ignore
  mutant(nested('ept-write-only', 'An extended entry may be writable and not readable', 'reserved bits', 'ept-walker'), '(lo & (read | write)) === write || ', ''), // prettier-ignore
  mutant(nested('ept-memory-type', 'Memory type 7 is none of the reserved ones', 'reserved bits', 'ept-walker'), 'const reservedTypes = 0x8c;', 'const reservedTypes = 0x0c;'), // prettier-ignore
  mutant(nested('ept-table-bits', 'Bit 3 of an extended entry that leads to a table is ignored', 'reserved bits', 'ept-walker'), 'const reservedInTable = 0x78;', 'const reservedInTable = 0x70;'), // prettier-ignore
  mutant(nested('ept-large-bits', 'Bit 12 of a large extended page is a PAT bit', 'reserved bits', 'ept-walker'), 'withinOf(level) & ~0xfff', 'withinOf(level) & ~0x1fff'), // prettier-ignore
  mutant(nested('ept-1gb', 'Processors without 1 GiB pages have extended ones', 'reserved bits', 'ept-walker'), '    if (level === 3 && !this.#page1Gb) return true;\n', ''), // prettier-ignore
  mutant(nested('npt-pdpte', 'PDPTEs that are read in the walk are not checked', 'reserved bits', 'guest-walker'), '      if (isBadPdpte(this.#low, this.#high, this.#pdptesOnDemand)) return reserved;\n', ''), // prettier-ignore
];

const rights: readonly Mutant[] = [
  mutant(native('fold-narrow', '32-bit paging takes rights from the last entry alone', 'rights', 'legacy-walker'), '((directory & leaf) >>> 1) & 3', '(leaf >>> 1) & 3'), // prettier-ignore
  mutant(native('fold-xd', 'The unrolled walk takes XD from the last entry alone', 'rights', 'long-walker'), '(((barred | hi) >>> 31) << 2)', '((hi >>> 31) << 2)'), // prettier-ignore
  mutant(native('fold-large', 'The walk by all rules folds no rights of upper entries', 'rights', 'native-walker'), 'const rights = rightsOf(fold & lo, barred);', 'const rights = rightsOf(lo, barred);'), // prettier-ignore
  mutant(native('user', 'Users may execute pages of the supervisor', 'rights', 'rules'), 'return isUser(rights) && (kind === KIND.read ||', 'return (isUser(rights) || kind === KIND.fetch) && (kind === KIND.read ||'), // prettier-ignore
  mutant(native('write-protect', 'Without CR0.WP the supervisor may not write read-only user pages', 'rights', 'rules'), 'mayWrite(rights) || !wp;', 'mayWrite(rights) || (!wp && !isUser(rights));'), // prettier-ignore
  mutant(native('smep', 'SMEP is ignored', 'rights', 'rules'), 'mayFetch(rights) && !(smep && isUser(rights));', 'mayFetch(rights);'), // prettier-ignore
  mutant(native('smap-writes', 'SMAP stops reads only', 'rights', 'rules'), 'if (smap && isUser(rights) && who !== WHO.overridden)', 'if (smap && isUser(rights) && who !== WHO.overridden && kind === KIND.read)'), // prettier-ignore
  mutant(native('smap-implicit', 'EFLAGS.AC lifts SMAP from implicit accesses', 'rights', 'native-unit'), "(privilege === 'supervisor' && ac === 'set' ?", "(ac === 'set' ?"), // prettier-ignore
  mutant(native('pku-write', 'Without CR0.WP protection keys do not bind the writes of users', 'rights', 'rules'), 'denying(p.pkru, access, wp || access.who === WHO.user)', 'denying(p.pkru, access, wp)'), // prettier-ignore
  mutant(native('pks-write', 'Without CR0.WP keys of supervisor pages bind writes', 'rights', 'rules'), 'denying(p.pkrs, access, wp)', 'denying(p.pkrs, access, true)'), // prettier-ignore
  mutant(native('keys-fetch', 'Protection keys bind fetches', 'rights', 'rules'), '  access.kind === KIND.fetch\n    ? 0', '  access.kind === KIND.fetch && rights === 0\n    ? 0'), // prettier-ignore
  mutant(nested('ept-mode-based', 'Mode-based execute control is ignored in rights', 'rights', 'ept-walker'), 'const user = registers.modeBasedExecute ? userExecute : execute;', 'const user = execute;'), // prettier-ignore
  mutant(nested('ept-user-presence', 'An extended entry for execution by users alone is absent', 'rights', 'ept-walker'), 'registers.modeBasedExecute ? 7 | userExecute : 7;', '7;'), // prettier-ignore
  mutant(nested('ept-table-write', 'With flags for EPT guest tables are still only read', 'rights', 'ept-walker'), 'const table = registers.accessedDirty ? read | write : read;', 'const table = read;'), // prettier-ignore
  mutant(nested('ept-flag-write', "Setting a guest's flag needs no right to write", 'rights', 'guest-walker'), 'if (((this.#nestedRights[level] as number) & WRITE) === 0) {', 'if (((this.#nestedRights[level] as number) & WRITE) < 0) {'), // prettier-ignore
  mutant(nested('npt-user', "Nested tables are walked as the supervisor's", 'rights', 'host-walker'), '.map((kind) => kind + WHO.user),', '.map((kind) => kind + WHO.supervisor),'), // prettier-ignore
  mutant(nested('npt-table-write', 'Guest tables behind nested ones are only read', 'rights', 'host-walker'), '[KIND.write, KIND.read, KIND.write,', '[KIND.read, KIND.read, KIND.write,'), // prettier-ignore
];

const others: readonly Mutant[] = [
  mutant(native('accessed-upper', 'The entry above the last one is not marked accessed', 'flags', 'native-walker'), 'level > leaf; level -= 1)', 'level > leaf + 1; level -= 1)'), // prettier-ignore
  mutant(native('dirty-with-ac', 'Writes with EFLAGS.AC leave no dirty flag', 'flags', 'native-walker'), '0x61, 0x61, 0x61,', '0x61, 0x61, 0x21,'), // prettier-ignore
  mutant(nested('ept-dirty', 'Behind guest tables extended entries are accessed but not dirty', 'flags', 'ept-walker'), 'cells.set([changed, used,', 'cells.set([used, used,'), // prettier-ignore
  mutant(nested('guest-flags-early', "A guest's flags are set before its rights are judged", 'flags', 'guest-walker'), '      const denial = this.registers.denial(access, this.rights, hi);\n      if (denial !== 0) return denial;\n      if (((fold & accessed)', '      const denial = this.registers.denial(access, this.rights, hi);\n      if (denial !== 0) {\n        this.#mark(level, fold, wantedBy(access) & ~lo);\n        return denial;\n      }\n      if (((fold & accessed)'), // prettier-ignore
  mutant(native('canonical-width', 'Addresses of 4-level paging have 57 bits', 'addresses', 'rules'), 'levels === 5 ? 57 : 48,', 'levels === 5 ? 57 : 57,'), // prettier-ignore
  mutant(native('canonical-second', 'Of an access of two pages only the first is held to canonical form', 'addresses', 'access'), ' || !isCanonical(secondHigh, linearBits)', ''), // prettier-ignore
  mutant(native('straddle', 'A single byte in the next page is not noticed', 'addresses', 'access'), 'if (size > room)', 'if (size > room + 1)'), // prettier-ignore
  mutant(native('wrap', 'Addresses of 32 bits do not wrap', 'addresses', 'access'), 'isWide && secondLow === 0 ?', 'secondLow === 0 ?'), // prettier-ignore
  mutant(native('pdpte-others', 'Of the PDPTEs only the first three are checked', 'reserved bits', 'native-unit'), 'for (let i = 0; i < 4; i += 1)', 'for (let i = 0; i < 3; i += 1)'), // prettier-ignore
  mutant(native('fetch-flag', 'I/D is reported without NXE and SMEP', 'reports', 'rules'), 'fetchFlag: smep || (nxe && hasAll(p.cr4, CR4.pae)) ? 0x10 : 0,', 'fetchFlag: 0x10,'), // prettier-ignore
  mutant(nested('qualification', 'With flags for EPT a violation on guest tables is reported as a read', 'reports', 'guest-unit'), 'exitUse === table && this.#areTablesWritten ? 3', 'exitUse === table && this.#areTablesWritten ? 1'), // prettier-ignore
];

/** All of them. */
export const walkMutants: readonly Mutant[] = [...reserved, ...rights, ...others];
