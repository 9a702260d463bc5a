/** The relay or the ender dies, and another takes its orders over. */

import { enderPoints } from './ender-points.ts';
import { relayPoints } from './relay-points.ts';
import { testPoints } from './run-points.ts';

testPoints([...relayPoints, ...enderPoints]);
