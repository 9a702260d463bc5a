/** For how long tests keep data: longer than any test runs. */

export const keep = { KEEP_SALE_HOURS: 72, KEEP_CONTACT_DAYS: 30, KEEP_NOTICE_DAYS: 90 };
