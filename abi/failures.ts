// What can be made to fail, counted within one operation. Fate decides; the trace records.
// A failure that the operation never comes to has no effect, so every trace remains a trace.

/** Classes of injected failures. */
export const failureClasses = [
  'heap', 'pool', 'iommuTable', 'maptrack', 'iommuOperation', 'copyBack', 'compareExchange', 'lateInvalidation', 'logDirty',
] as const; // prettier-ignore

export type FailureClass = (typeof failureClasses)[number];

/** The nth request (from 1) of a class within an operation fails. */
export interface Failure {
  readonly class: FailureClass;
  readonly nth: number;
}
