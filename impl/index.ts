// What is fast: the implementation's public face. A machine is made from a header and driven through executions.
// Inside impl/ nobody imports this file: an edited copy is driven through its machine.ts alone.

export { geometryOf, Machine } from './machine.ts';
export { stopAt, type Call, type Execution, type RunOutcome } from './execution.ts';
export { fieldsOf, type FieldName } from './layout.ts';
