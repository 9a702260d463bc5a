/** The worker with its relay, which die, or freeze, at the cue that is named. */

import { armCue } from './cues.ts';

armCue(process.argv[2], process.argv[3] === 'freezes' ? 'freezes' : 'dies');
await import('../../src/workers/main.ts');
