/**
 * The settings of each connection to MySQL: how it reads and writes, and when the server gives it up.
 *
 * A client that vanishes without closing, as when its host loses power, leaves its transaction and its locks
 * to the server, and TCP notices only after two hours. So the server ends a connection that is idle for
 * longer than a living client leaves it.
 */

/** Row locks are held for milliseconds. A transaction that waits longer is rolled back and repeated. */
const LOCK_WAIT_SECONDS = 3;
/**
 * A living client commits or gives up within `STATEMENTS_TIMEOUT_MS`, which is less. MySQL has no such limit:
 * there a transaction is given up with its connection, after `IDLE_SECONDS`.
 */
const IDLE_TRANSACTION_SECONDS = 10;
/** A living client closes an idle connection after half of it, so it never uses one that is given up. */
const IDLE_SECONDS = 20;
/** For one packet that is half read or half written. */
const PACKET_SECONDS = 10;

/** How long the pool keeps an idle connection. */
export const POOL_IDLE_MS = (IDLE_SECONDS * 1_000) / 2;

/**
 * Sent ahead of a connection's first statement. READ COMMITTED takes no gap locks, so batches do not block
 * each other. MariaDB reads what is in the comment, and MySQL does not.
 */
export const SESSION_SETTINGS = [
  'SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED',
  `SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
     innodb_lock_wait_timeout = ${LOCK_WAIT_SECONDS}, wait_timeout = ${IDLE_SECONDS},
     net_read_timeout = ${PACKET_SECONDS}, net_write_timeout = ${PACKET_SECONDS}
     /*M! , idle_transaction_timeout = ${IDLE_TRANSACTION_SECONDS} */`,
];
