/** The activities of a refund, apart from those of an order. */

import type { Activities } from '../../../src/activities/index.ts';

export type RefundActivities = Pick<Activities, 'refundPayment' | 'giveBack' | 'parkRefund' | 'unparkRefund'>;
