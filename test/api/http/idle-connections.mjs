/**
 * A process that opens many connections to a port, signals
 * its parent once they stand, and holds them until it ends.
 */

import { once } from 'node:events';
import { connect } from 'node:net';

const [port, count] = process.argv.slice(2).map(Number);
/** Opened at once: the kernel's queue of new connections is finite. */
const AT_ONCE = 200;

const sockets = [];
let lost = 0;
for (let i = 0; i < count; i += AT_ONCE) {
  const opening = Array.from({ length: Math.min(AT_ONCE, count - i) }, () => connect(port, '127.0.0.1'));
  await Promise.all(opening.map((socket) => once(socket, 'connect')));
  sockets.push(...opening);
}
for (const socket of sockets) {
  socket
    .on('error', () => {})
    .once('close', () => {
      lost += 1;
    });
}
process.send({ open: sockets.length });
process.on('message', () => process.send({ open: sockets.length - lost }));
await once(process, 'disconnect');
process.exit();
