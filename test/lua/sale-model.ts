/**
 * What the scripts must do, said once more in plain TypeScript: the property test compares the two after
 * every step.
 */

export type Hold = 'held' | 'released' | 'sold' | 'returned';

interface Line {
  sku: string;
  quantity: number;
}

export interface Attempt {
  orderNo: string;
  userId: string;
  idempotencyKey: string;
  fingerprint: string;
  lines: readonly Line[];
}

interface Stock {
  total: number;
  held: number;
  sold: number;
  limit: number | null;
}

export class SaleModel {
  readonly stock: Map<string, Stock>;
  readonly holds = new Map<string, { attempt: Attempt; hold: Hold; version: number; isLimitBack: boolean }>();
  readonly #requests = new Map<string, Attempt>();
  /** The last change that was decided; the warm-up is the second, after the creation. */
  #decided = { changeNo: 2, changeId: 'warm-up', reply: ['changed'] };

  constructor(skus: readonly { sku: string; total: number; limitPerUser: number | null }[]) {
    this.stock = new Map(
      skus.map(({ sku, total, limitPerUser }) => [sku, { total, held: 0, sold: 0, limit: limitPerUser }]),
    );
  }

  /** The name of the reply, and what it must be about. */
  reserve(attempt: Attempt): string[] {
    const requestKey = `${attempt.userId} ${attempt.idempotencyKey}`;
    const earlier = this.#requests.get(requestKey);
    if (earlier?.orderNo === attempt.orderNo) return ['reserved', attempt.orderNo];
    if (earlier) {
      return [earlier.fingerprint === attempt.fingerprint ? 'repeated' : 'key-reused', earlier.orderNo];
    }
    for (const { sku, quantity } of attempt.lines) {
      const stock = this.stock.get(sku);
      if (!stock) return ['unknown-sku', sku];
      const available = stock.total - stock.held - stock.sold;
      if (available < quantity) return ['sold-out', sku, String(available)];
      const bought = this.boughtBy(attempt.userId, sku);
      if (stock.limit !== null && bought + quantity > stock.limit) {
        return ['limit-reached', sku, String(stock.limit), String(bought)];
      }
    }
    this.#requests.set(requestKey, attempt);
    this.#hold(attempt);
    return ['reserved', attempt.orderNo];
  }

  reserveAgain(attempt: Attempt): string[] {
    const known = this.holds.get(attempt.orderNo);
    if (known) return ['known', known.hold];
    for (const { sku, quantity } of attempt.lines) {
      const stock = this.stock.get(sku);
      if (!stock) return ['unknown-sku', sku];
      if (stock.total - stock.held - stock.sold < quantity) return ['sold-out', sku];
    }
    const requestKey = `${attempt.userId} ${attempt.idempotencyKey}`;
    if (!this.#requests.has(requestKey)) this.#requests.set(requestKey, attempt);
    this.#hold(attempt);
    return ['reserved'];
  }

  /** Of an order that is there: MySQL has committed that it was paid. */
  giveBack(orderNo: string, { limit, stock }: { limit: boolean; stock: boolean }): string[] {
    const order = this.holds.get(orderNo);
    if (!order) return [];
    if (order.hold === 'held' || order.hold === 'released') return [order.hold];
    if (stock && order.hold === 'sold') {
      order.hold = 'returned';
      for (const { sku, quantity } of order.attempt.lines) this.#of(sku).sold -= quantity;
    }
    order.isLimitBack ||= limit;
    return ['returned'];
  }

  settle(orderNo: string, as: 'released' | 'sold'): string[] {
    const order = this.holds.get(orderNo);
    if (!order) return ['lost'];
    if (order.hold !== 'held') return [order.hold];
    order.hold = as;
    for (const { sku, quantity } of order.attempt.lines) {
      this.#of(sku).held -= quantity;
      if (as === 'sold') this.#of(sku).sold += quantity;
    }
    return [as];
  }

  /** All totals and limits at once, or nothing; a repeat gets the answer of the first time. */
  change(
    changeNo: number,
    changeId: string,
    items: readonly { sku: string; total: number; limitPerUser: number | null }[],
  ): string[] {
    const decided = this.#decided;
    const isRepeat = decided.changeNo === changeNo && decided.changeId === changeId;
    if (isRepeat) return decided.reply;
    if (decided.changeNo >= changeNo) return ['stale', String(decided.changeNo)];
    const tooLow = items.find(({ sku, total }) => {
      const stock = this.stock.get(sku);
      return stock && total < stock.total && stock.held + stock.sold > total;
    });
    const reply = tooLow
      ? ['below-committed', tooLow.sku, String(this.#committedOf(tooLow.sku))]
      : ['changed'];
    this.#decided = { changeNo, changeId, reply };
    if (tooLow) return reply;
    for (const { sku, total, limitPerUser: limit } of items) {
      const { held, sold } = this.stock.get(sku) ?? { held: 0, sold: 0 };
      this.stock.set(sku, { total, held, sold, limit });
    }
    return reply;
  }

  project(orderNo: string, version: number): string[] {
    const order = this.holds.get(orderNo);
    if (!order) return ['absent'];
    if (order.version >= version) return ['stale'];
    order.version = version;
    return ['projected'];
  }

  /** Units that count against a user's limit. */
  boughtBy(userId: string, sku: string): number {
    return [...this.holds.values()]
      .filter(
        ({ attempt, hold, isLimitBack }) => attempt.userId === userId && hold !== 'released' && !isLimitBack,
      )
      .flatMap(({ attempt }) => attempt.lines)
      .reduce((units, line) => units + (line.sku === sku ? line.quantity : 0), 0);
  }

  #hold(attempt: Attempt): void {
    this.holds.set(attempt.orderNo, { attempt, hold: 'held', version: 0, isLimitBack: false });
    for (const { sku, quantity } of attempt.lines) this.#of(sku).held += quantity;
  }

  #committedOf(sku: string): number {
    const { held, sold } = this.#of(sku);
    return held + sold;
  }

  #of(sku: string): Stock {
    const stock = this.stock.get(sku);
    if (!stock) throw new Error(`the model has no SKU ${sku}`);
    return stock;
  }
}
