/** How far the feed may be out of the order of time: for as long as events waited for their numbers. */

export const eventWaits = [
  // In ms, of all events that were ever numbered: they wait while no dispatcher runs.
  `ALTER TABLE event_dispatch ADD COLUMN longest_wait_ms BIGINT UNSIGNED NOT NULL DEFAULT 0`,
];
