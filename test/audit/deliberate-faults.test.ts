/**
 * Proves the auditor: it names what each mutant breaks in
 * the running system, and finds nothing without the mutant.
 */

import { beforeAll, expect, test } from 'vitest';
import type { SandboxConsole } from '../../sandbox/console.ts';
import { auditStrayMoney, runAudit } from '../../src/audit/run-audit.ts';
import { isFinal } from '../../src/orders/order.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { statusQuery } from '../../src/workflows/contract.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { select, selectOne } from '../support/rows.ts';
import type { Bought } from '../support/shop.ts';
import { pressPay } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart } from '../support/workflows/start.ts';
import * as eventMutants from './event-mutants.ts';
import * as mutants from './mutants.ts';
import type { Mutant } from './mutants.ts';
import * as troubles from './trouble.ts';
import type { Trouble } from './trouble.ts';

/** For a sale that has come to rest in a wrong state, which nothing is about to correct. */
const SETTLE_BROKEN_MS = 1_000;

let checkout: Checkout;
let exchange: ReturnType<typeof troubles.openExchange>;
let providers: ReturnType<typeof troubles.openProviderExchange>;
let providerConsole: SandboxConsole;
beforeAll(async () => {
  checkout = await openCheckout({
    under: (stores) => {
      exchange = troubles.openExchange(stores);
      return exchange.under;
    },
    inFront: (provider) => {
      providers = troubles.openProviderExchange(provider);
      return providers.inFront;
    },
  });
  ({ providerConsole } = checkout);
});

/**
 * A shopper's way through the service, with or without a
 * mutant in it; at its end nothing can correct the damage.
 */
type Scenario = (bug: Mutant) => Promise<{ saleId: string; accepted: string[] }>;

/** One lamp is bought, and `then` is what comes of it. */
async function buy(stores: ReturnType<Mutant>, then: (bought: Bought) => Promise<unknown>) {
  exchange.exchange(stores);
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await then({ shopper, orderNo });
  return { saleId, accepted: [orderNo] };
}

const meets = (trouble: Trouble, orderNo: string, times = 1) =>
  waitFor(`the trouble, ${times} times`, () => trouble.met(orderNo) >= times);

const relayFails: Scenario = (bug) => {
  const trouble = troubles.relayFailsAtFirst();
  return buy(bug(trouble.around(checkout.stores)), ({ orderNo }) => meets(trouble, orderNo));
};

const storedTwice: Scenario = (bug) =>
  buy(bug(troubles.projectionFailsAtFirst().around(checkout.stores)), async ({ shopper, orderNo }) => {
    await shopper.awaitStatus(orderNo, 'awaiting_payment');
    await waitFor('its workflow to find it stored', async () => {
      const state = await checkout.client.workflow
        .getHandle(orderNo)
        .query(statusQuery)
        .catch(() => undefined);
      return state?.status === 'awaiting_payment';
    });
  });

const longBurst: Scenario = (bug) => {
  const trouble = troubles.noRoom(2);
  return buy(bug(trouble.around(checkout.stores)), ({ orderNo }) => meets(trouble, orderNo, 2));
};

const cancelWhereWorkerDies: Scenario = (bug) => {
  const trouble = troubles.diesAfter('release');
  return buy(trouble.around(bug(checkout.stores)), async ({ shopper, orderNo }) => {
    await shopper.awaitStatus(orderNo, 'awaiting_payment');
    await shopper.cancel(orderNo);
    await meets(trouble, orderNo, 2);
  });
};

const payWhereWorkerDies: Scenario = (bug) => {
  const trouble = troubles.diesAfter('confirm');
  return buy(trouble.around(bug(checkout.stores)), async (bought) => {
    await checkout.pay(bought);
    await meets(trouble, bought.orderNo, 2);
  });
};

const slowWrite: Scenario = (bug) => {
  const trouble = troubles.writeHangs();
  return buy(bug(trouble.around(checkout.stores)), async ({ shopper, orderNo }) => {
    await shopper.awaitStatus(orderNo, 'failed');
    await checkout.client.workflow.getHandle(orderNo).result();
    await trouble.commit(orderNo);
    await waitFor('the end to be listed', async () => {
      const query = `WorkflowId = '${orderNo}' AND ExecutionStatus = 'Running'`;
      return (await checkout.client.workflow.count(query)).count === 0;
    });
  });
};

const payWhileInboxIsAway: Scenario = (bug) => {
  const trouble = troubles.inboxAway(1);
  return buy(bug(trouble.around(checkout.stores)), async (bought) => {
    await pressPay(await checkout.openPage(bought));
    await meets(trouble, bought.orderNo);
  });
};

/** The notice does not come at all: only closing the session shows that the shopper has paid. */
const payAndCancel: Scenario = (bug) => {
  const trouble = troubles.inboxAway(Infinity);
  return buy(trouble.around(bug(checkout.stores)), async (bought) => {
    const { shopper, orderNo } = bought;
    await pressPay(await checkout.openPage(bought));
    await meets(trouble, orderNo);
    await shopper.cancel(orderNo);
    await waitFor('the end', async () => isFinal((await shopper.readOrder(orderNo)).status));
  });
};

const payOnce: Scenario = (bug) =>
  buy(bug(checkout.stores), async (bought) => {
    await pressPay(await checkout.openPage(bought));
    const recorded = 'SELECT payment_id FROM payments WHERE order_no = ?';
    await waitFor(
      'the payment to be recorded',
      async () => (await select(checkout.stores.pool, recorded, [bought.orderNo])).length > 0,
    );
  });

const lateProjection: Scenario = (bug) =>
  buy(bug(checkout.stores), async (bought) => {
    const { version, status, payment, reason } = await bought.shopper.awaitStatus(
      bought.orderNo,
      'awaiting_payment',
    );
    await awaitStart(checkout.client, bought.orderNo);
    await checkout.pay(bought);
    // The last that shows the order.
    await checkout.client.workflow.getHandle(bought.orderNo).result();
    // As a worker does that was suspended since it stored the order.
    await exchange.under.reservations.project(bought.orderNo, { version, status, payment, reason });
  });

const cancel: Scenario = (bug) =>
  buy(bug(checkout.stores), async ({ shopper, orderNo }) => {
    await shopper.cancel(orderNo);
    await shopper.awaitStatus(orderNo, 'cancelled');
  });

/**
 * An operator requests the refund of a paid order.
 * @returns once it is made, and limit and stock are given back
 */
async function refund(orderNo: string): Promise<void> {
  const { pool, refunds } = checkout.stores;
  const read = () =>
    selectOne(pool, 'SELECT payment_id AS id, status FROM payments WHERE order_no = ?', [orderNo]);
  const paymentId = Number((await read())['id']);
  expect(await refunds.request(paymentId, 'an operator')).toBe('requested');
  await waitFor('the refund', async () => (await read())['status'] === 'refunded');
  await checkout.client.workflow.getHandle(await readRefundWorkflowId(pool, paymentId)).result();
}

const refundPaid: Scenario = (bug) =>
  buy(bug(checkout.stores), async (bought) => {
    await checkout.pay(bought);
    await refund(bought.orderNo);
  });

/** The shopper has another lamp, so that an allowance too much would show. */
const refundWhereWorkerDies: Scenario = async (bug) => {
  const trouble = troubles.diesAfterGiveBack();
  let other = '';
  const { saleId, accepted } = await buy(trouble.around(bug(checkout.stores)), async (bought) => {
    const { shopper, orderNo } = bought;
    await checkout.pay(bought);
    other = await shopper.buy((await shopper.readOrder(orderNo)).saleId);
    await checkout.pay({ shopper, orderNo: other });
    await refund(orderNo);
    await meets(trouble, orderNo, 2);
  });
  return { saleId, accepted: [...accepted, other] };
};

const refundRefusedAtFirst: Scenario = (bug) =>
  buy(bug(checkout.stores), async (bought) => {
    await checkout.pay(bought);
    await providerConsole.withMischief({ refund_refused: 1 }, () => refund(bought.orderNo));
  });

const pay: Scenario = (bug) => buy(bug(checkout.stores), (bought) => checkout.pay(bought));

interface Fault {
  bug: Mutant;
  scenario: Scenario;
  /** The rules that must find it. */
  rules: string[];
}

const FAULTS: Record<string, Fault> = {
  'acknowledging an outbox entry before its order is durable': {
    bug: mutants.acknowledgeWhatIsRead,
    scenario: relayFails,
    rules: ['accepted orders exist', 'holds end as their orders'],
  },
  'reading the outbox without a record of which relay has read what': {
    bug: mutants.readWithoutTrace,
    scenario: relayFails,
    rules: ['accepted orders exist', 'holds end as their orders'],
  },
  "completing an order's claim before Temporal has the order": {
    bug: mutants.completeClaimsWhenTaken,
    scenario: longBurst,
    rules: ['open orders move'],
  },
  'releasing a hold twice': {
    bug: mutants.releaseWithoutGuard,
    scenario: cancelWhereWorkerDies,
    rules: ['stock adds up'],
  },
  'confirming a hold twice': {
    bug: mutants.confirmWithoutGuard,
    scenario: payWhereWorkerDies,
    rules: ['stock adds up'],
  },
  'giving back the stock, and not what counts against the limit': {
    bug: mutants.releaseStockAlone,
    scenario: cancel,
    rules: ['limits are true'],
  },
  'abandoning an order without a tombstone': {
    bug: mutants.abandonWithoutTombstone,
    scenario: slowWrite,
    rules: ['open orders move', 'holds end as their orders', 'stock adds up'],
  },
  'acknowledging a payment notice before it is committed': {
    bug: mutants.acknowledgeNoticeFirst,
    scenario: payWhileInboxIsAway,
    rules: ['collected money is known'],
  },
  'counting an order again that is stored already': {
    bug: mutants.countStoredOrdersAgain,
    scenario: storedTwice,
    rules: ['the ledger adds up', 'orders account for the stock', 'stock adds up'],
  },
  'projecting an older state over a newer one': {
    bug: mutants.projectWithoutVersion,
    scenario: lateProjection,
    rules: ['the projection is true'],
  },
  'recording a payment without paying its order': {
    bug: mutants.recordWithoutPaying,
    scenario: payOnce,
    rules: ['payments end somewhere'],
  },
  'cancelling an order whose payment is recorded and not applied': {
    bug: mutants.recordWithoutPaying,
    scenario: payAndCancel,
    rules: ['payments end somewhere'],
  },
  'giving the stock back before the cancel is committed': {
    bug: mutants.releaseBeforeCommit,
    scenario: payAndCancel,
    rules: ['holds end as their orders', 'stock adds up'],
  },
  'recording a refund before the provider has made it': {
    bug: mutants.recordRefundFirst,
    scenario: refundRefusedAtFirst,
    rules: ['what went back is known', 'money was kept for something', 'the books balance'],
  },
  'giving back twice what counts against the limit': {
    bug: mutants.returnLimitUnremembered,
    scenario: refundWhereWorkerDies,
    rules: ['limits are true'],
  },
  'giving back the stock of a refunded order unasked': {
    bug: mutants.returnStockUnasked,
    scenario: refundPaid,
    rules: ['stock adds up'],
  },
  'numbering a newer change of an order before an older one': {
    bug: eventMutants.numberNewestFirst,
    scenario: pay,
    rules: ['events keep the order of versions'],
  },
  'numbering no event': {
    bug: eventMutants.numberNothing,
    scenario: pay,
    rules: ['no change without its event'],
  },
};

async function audit({ saleId, accepted }: Awaited<ReturnType<Scenario>>, settleMs?: number) {
  const { findings } = await runAudit(checkout, saleId, accepted, settleMs);
  return findings;
}

test.each(Object.entries(FAULTS))('the auditor finds %s', async (_, { bug, scenario, rules }) => {
  expect(await audit(await scenario((stores) => stores))).toEqual([]);

  const findings = await audit(await scenario(bug), SETTLE_BROKEN_MS);

  expect(findings.map(({ rule }) => rule)).toEqual(expect.arrayContaining(rules));
});

/** The provider's answer gets lost, and its callback as well. */
async function auditRefund(bug: (provider: PaymentProvider) => PaymentProvider, settleMs?: number) {
  const provider = troubles.lavishProvider(checkout.provider);
  const { saleId, accepted } = await buy(checkout.stores, async (bought) => {
    await checkout.pay(bought);
    providers.exchange(bug(provider));
    await providerConsole.withMischief({ drop: 1 }, () => refund(bought.orderNo));
  });
  providers.exchange(checkout.provider);
  return (await runAudit({ ...checkout, provider }, saleId, accepted, settleMs)).findings;
}

test('the auditor finds a refund that was made twice', async () => {
  expect(await auditRefund((provider) => provider)).toEqual([]);

  const findings = await auditRefund(mutants.refundAnew, SETTLE_BROKEN_MS);

  expect(findings.map(({ rule }) => rule)).toEqual([
    'what went back is known',
    'money was kept for something',
    'the books balance',
  ]);
});

test.each<[string, Mutant]>([
  ['a sale that opened, closed and settled without events', eventMutants.markWithoutEvents],
  ['a change of a sale without its event', eventMutants.changeWithoutEvent],
])('the auditor finds %s', async (_, bug) => {
  const { stores } = checkout;
  const decision = { actor: 'a shop', reason: null };
  const live = async ({ saleChanges, saleNews }: ReturnType<Mutant>) => {
    const sale = buildSale();
    const { saleId } = sale;
    await stores.sales.create(sale);
    await saleNews.announceOpened(saleId, []);
    for (const action of ['pause', 'resume', 'close'] as const)
      expect(await saleChanges.record({ action, saleId }, decision)).toEqual({ kind: 'changed' });
    await saleNews.announceClosed(saleId, []);
    await saleNews.announceSettled(saleId);
    expect(await saleChanges.archive(saleId, decision)).toBe('archived');
    return (await runAudit(checkout, saleId, [], 0)).findings.map((finding) => finding.rule);
  };
  const rule = 'no change without its event';
  expect(await live(stores)).not.toContain(rule);
  expect(await live(bug(stores))).toContain(rule);
});

test('the auditor finds parked work that is parked again without an event', async () => {
  const { stores } = checkout;
  const rules = async () => (await auditStrayMoney(checkout, 0)).findings.map(({ rule }) => rule);
  const reopen = async ({ orders }: ReturnType<Mutant>) => {
    await stores.pool.query(`UPDATE parked SET resolved_at = NOW(3) WHERE reference = 'again'`);
    await orders.park('again', 'it fails', null);
    return rules();
  };
  expect(await reopen(stores)).not.toContain('what is parked has an event');
  expect(await reopen(stores)).not.toContain('what is parked has an event');
  expect(await reopen(eventMutants.parkWithoutEvent(stores))).toContain('what is parked has an event');
  await stores.pool.query('DELETE FROM parked');
});

test.each<[string, Mutant, string]>([
  ['a parked order without an event', eventMutants.parkWithoutEvent, 'what is parked has an event'],
  ['a number that no event has', eventMutants.leaveNumbersOut, 'the feed is whole'],
])('the auditor finds %s', async (_, bug, rule) => {
  const sellAndPark = async (stores: ReturnType<Mutant>) => {
    const { accepted } = await buy(stores, (bought) => checkout.pay(bought));
    for (const orderNo of accepted) await exchange.under.orders.park(orderNo, 'it fails', null);
  };
  const rules = async (settleMs?: number) =>
    (await auditStrayMoney(checkout, settleMs)).findings.map((finding) => finding.rule);
  await sellAndPark(checkout.stores);
  expect(await rules()).toEqual([]);

  await sellAndPark(bug(checkout.stores));
  await waitFor('the finding', async () => (await rules(0)).includes(rule));
  exchange.exchange(checkout.stores);
  // The gap in the feed stays, so that its mutant comes last.
  await checkout.stores.pool.query('DELETE FROM parked');
});
