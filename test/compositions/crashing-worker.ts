/** The worker with its relay, which die at the cue that is named, or freeze there and may die at another. */

import { armCue } from './cues.ts';

const [, , cue, fate, laterCue] = process.argv;
armCue(cue, fate === 'freezes' ? 'freezes' : 'dies');
if (laterCue !== undefined) armCue(laterCue);
await import('../../src/workers/main.ts');
