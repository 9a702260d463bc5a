/** MySQL remembers in which namespaces of Temporal it has workflows, so that a lack of them shows. */

export const temporalNamespaces = [
  // schedule_made_at: since then the namespace has the schedule of the reconciliation. lost_at: it was
  // missing, and not all that Temporal has lost with it is due again yet.
  `CREATE TABLE IF NOT EXISTS temporal_namespaces (
    namespace VARCHAR(255) NOT NULL PRIMARY KEY,
    schedule_made_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    lost_at DATETIME(3) NULL
  ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin`,
];
