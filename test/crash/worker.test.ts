/** A worker dies in a step of an order, or of a refund, or beside them. */

import { giveBackPoints } from './give-back-points.ts';
import { pushPoints } from './push-points.ts';
import { refundPoints } from './refund-points.ts';
import { testPoints } from './run-points.ts';
import { workerPoints } from './worker-points.ts';

testPoints([...refundPoints, ...workerPoints, ...giveBackPoints, ...pushPoints]);
