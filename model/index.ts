// What is true: the model's public face. Begin reading at isolation.ts, the theorem on one screen; then step.ts, how an
// operation is a sequence of micro-steps; then one mechanism, say grants/.

export { authority, owed, reasons, type Justification } from './isolation.ts';
export { advance, begin, runAlone } from './step.ts';
export { emptyMachine } from './machine.ts';
export type { State, Domain, Frame, Entry } from './state.ts';
export type { Outcome, Progress } from './progress.ts';
