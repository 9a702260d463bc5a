/** What a cart costs, and the ticket that says so: made here, where no shopper can change it. */

import { signTicket } from '../keys.js';
import { catalogue } from '../settings.js';

const { sale, products, shipping, discounts } = catalogue;
const LINES_MAX = 20;
const QUANTITY_MAX = 100;

/**
 * @typedef {{ sku: string, quantity: number }} Item
 * @typedef {{ items: Item[], code: string }} Cart
 */

/**
 * @param {unknown} body of a browser
 * @returns {Cart | undefined} undefined: it is no cart of this shop's
 */
export function parseCart(body) {
  const { items, code } = /** @type {{ items?: unknown, code?: unknown }} */ (body ?? {});
  if (!Array.isArray(items) || items.length === 0 || items.length > LINES_MAX) return undefined;
  const isFit = items.every(
    (item) =>
      products.some(({ sku }) => sku === item?.sku) &&
      Number.isInteger(item.quantity) &&
      item.quantity > 0 &&
      item.quantity <= QUANTITY_MAX,
  );
  const isEachOnce = new Set(items.map((item) => item?.sku)).size === items.length;
  if (!isFit || !isEachOnce) return undefined;
  return {
    items: items.map(({ sku, quantity }) => ({ sku, quantity })),
    code: typeof code === 'string' ? code : '',
  };
}

/**
 * The order as the browser sends it to Holdfast, and its lines for the eye.
 * @param {string} userId
 * @param {Cart} cart
 */
export async function prepareOrder(userId, { items, code }) {
  const lines = items.map(({ sku, quantity }) => {
    const product = products.find((each) => each.sku === sku);
    if (!product) throw new Error(`no such product: ${sku}`);
    return { name: `${quantity} × ${product.title}`, amount: product.price * quantity };
  });
  const goods = sum(lines);
  const discount = Object.hasOwn(discounts, code) ? discounts[code] : undefined;
  const charges = [
    { code: shipping.code, name: shipping.name, amount: goods >= shipping.freeFrom ? 0 : shipping.amount },
    ...(discount
      ? [{ code: discount.code, name: discount.name, amount: -Math.round((goods * discount.percent) / 100) }]
      : []),
  ];
  // The shop's own number, by which its back office finds the parcel.
  const reference = `F-${crypto.randomUUID().slice(0, 8).toUpperCase()}`;
  const paid = charges.filter(({ amount }) => amount !== 0);
  return {
    order: {
      saleId: sale.saleId,
      items,
      reference,
      metadata: { channel: 'web' },
      expectedTotal: goods + sum(charges),
      ticket: await signTicket(userId, { sale: sale.saleId, items, reference, charges: paid }),
    },
    lines: [...lines, ...charges.map(({ name, amount }) => ({ name, amount }))],
    isCodeKnown: code === '' || discount !== undefined,
  };
}

/** @param {{ amount: number }[]} lines */
const sum = (lines) => lines.reduce((total, { amount }) => total + amount, 0);
