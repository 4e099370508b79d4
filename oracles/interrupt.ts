// Ctrl-C for commands that take long: an orderly end first, then one at once.
// A first reader may skip it.

/** Ctrl-C: the first asks for an end, the second makes one. */
export function interrupt(): () => boolean {
  let isRequested = false;
  const stop = (): void => {
    if (isRequested) process.exit(130);
    isRequested = true;
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  return () => isRequested;
}
