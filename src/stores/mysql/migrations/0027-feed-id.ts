/** Names the history of events of this MySQL, so that what is kept of it elsewhere is found again. */

export const feedId = [
  // The same in a copy of these data, and another in every other.
  `ALTER TABLE event_dispatch ADD COLUMN feed_id CHAR(36) NOT NULL DEFAULT ''`,
  `UPDATE event_dispatch SET feed_id = UUID() WHERE feed_id = ''`,
];
