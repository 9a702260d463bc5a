/** `npm run back-office`: fulfils what was paid, as the feed of events and pushes say. */

import { followFeed } from './feed.js';
import { receivePushes } from './receiver.js';

await Promise.all([receivePushes(), followFeed()]);
