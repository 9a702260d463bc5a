/** Deliveries that are tried ahead of their schedule, and keep it. */

export const pushSchedule = [
  // When the schedule has the next try, where it was made due sooner because the endpoint answers again. As
  // late as due_at: none comes sooner. Null: due_at is by the schedule.
  `ALTER TABLE push_deliveries ADD COLUMN scheduled_at DATETIME(3) NULL`,
];
