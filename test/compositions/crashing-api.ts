/** The API, which dies at the cue that its argument names. */

import { armCue } from './cues.ts';

armCue(process.argv[2]);
await import('../../src/api/main.ts');
