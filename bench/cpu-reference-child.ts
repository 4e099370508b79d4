// One process of the bench `cpu` for goal P6: both specifications over the memories that were asked for, so that the compiler knows one
// memory of each. It prints translations per CPU second as JSON. A first reader may skip it. Arguments: scene as JSON, pairing as JSON, rounds.

import { referenceSpeeds, type Pairing } from './cpu-reference.ts';
import type { Scene } from './cpu-tables.ts';

const [scene = '{}', pairing = '{}', rounds = '7'] = process.argv.slice(2);
console.log(
  JSON.stringify(referenceSpeeds(JSON.parse(scene) as Scene, JSON.parse(pairing) as Pairing, Number(rounds))),
);
