// One process of the bench `cpu`: one arrangement of one scene, so that the compiler knows one memory as it would in use. It times its
// own passes and runs the native side in between, round by round, and prints what it found as JSON.
// A first reader may skip it. Arguments: arrangement, scene as JSON, rounds, and the native program unless there is none.

import { dirname, join } from 'node:path';
import { cpuSeconds } from './clock.ts';
import { passOf, type Arrangement } from './cpu-contestants.ts';
import { runNative, writeStage } from './cpu-native.ts';
import { stageOf, type Scene } from './cpu-tables.ts';

const [arrangement, sceneText = '{}', rounds = '7', program] = process.argv.slice(2);
const scene = JSON.parse(sceneText) as Scene;
const stage = stageOf(scene);
const file = program === undefined ? undefined : join(dirname(program), 'stage');
if (file !== undefined) writeStage(file, stage);
const pass = passOf(arrangement as Arrangement, stage);
const sum = pass();
const ours: number[] = [];
const native: number[] = [];
let isEqual = true;
for (let round = -2; round < Number(rounds); round += 1) {
  const start = cpuSeconds();
  for (let i = 0; i < scene.repeats; i += 1) isEqual = pass() === sum && isEqual;
  if (round >= 0) ours.push((cpuSeconds() - start) * 1e9);
  if (round < 0 || program === undefined || file === undefined) continue;
  const measured = runNative(program, arrangement as Arrangement, file);
  isEqual = measured.sum === sum && isEqual;
  native.push(measured.nanoseconds);
}
console.log(JSON.stringify({ ours, native, isEqual, sum }));
