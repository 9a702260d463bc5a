/**
 * One row: until when no API believes the projections in Redis, because one has answered what it could not
 * project.
 */

export const projectionDoubts = [
  `CREATE TABLE IF NOT EXISTS projection_doubts (
    doubt_id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
    doubted_until DATETIME(3) NOT NULL
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
];
