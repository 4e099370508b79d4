import { judgedOf } from './page.ts'; import { readResults } from './results.ts'; import { readReasons, plain } from './reasons.ts';
const r = readReasons();
for (const t of ['paging', 'hap', 'tlb'] as const) { const { judged } = await judgedOf(t, { seed: 2026, count: 200 }, readResults());
const done = judged.filter((j) => j.result); console.log('#', t, done.length, done.filter((j) => j.result!.status !== 'survived').length);
for (const { mutant: m, result } of judged) if (result?.status === 'survived' && !r(m)) console.log(JSON.stringify({ file: m.file, line: m.line, text: m.text, before: plain(m.before), after: plain(m.after) })); }
