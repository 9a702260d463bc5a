/** `npm run settlement`: what the sale's paid orders came to, and what of it went back, by SKU and in all. */

import { createClient, explain, isOk } from '../holdfast.js';
import { catalogue } from '../settings.js';

const call = createClient('settlement', 'orders:read');
const { saleId, currency } = catalogue.sale;

/** @type {Map<string, { units: number, amount: number }>} by SKU, and by the code of each charge */
const lines = new Map();
let [orders, paid, refunded] = [0, 0, 0];

for await (const order of readPaidOrders()) {
  orders += 1;
  paid += order.total;
  refunded += order.refunded;
  for (const { sku, quantity, unitPrice } of order.items) add(sku, quantity, quantity * unitPrice);
  for (const { code, amount } of order.charges) add(code, 0, amount);
}
const sum = [...lines.values()].reduce((total, { amount }) => total + amount, 0);

console.table(
  Object.fromEntries([...lines].map(([name, { units, amount }]) => [name, { units, amount: money(amount) }])),
);
console.log(
  `${orders} orders: paid ${money(paid)}, refunded ${money(refunded)}, left ${money(paid - refunded)} ${currency}`,
);
if (sum !== paid) {
  console.error(`The lines come to ${money(sum)}, and not to what was paid.`);
  process.exitCode = 1;
}

async function* readPaidOrders() {
  for (let after; after !== null;) {
    const query = new URLSearchParams({ saleId, status: 'paid', ...(after !== undefined && { after }) });
    const page = await call('GET', `/v1/admin/orders?${query}`);
    if (!isOk(page)) throw new Error(explain(page));
    yield* page.body.orders;
    after = page.body.next;
  }
}

/**
 * @param {string} name
 * @param {number} units
 * @param {number} amount
 */
function add(name, units, amount) {
  const line = lines.get(name) ?? { units: 0, amount: 0 };
  lines.set(name, { units: line.units + units, amount: line.amount + amount });
}

/** @param {number} cents */
function money(cents) {
  return (cents / 100).toFixed(2);
}
