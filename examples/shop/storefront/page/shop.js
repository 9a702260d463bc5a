/** The storefront: shows the sale, checks out a basket, and follows the shopper's orders. */

import { callShop, createClient, explain, HoldfastError, newKey, pause } from './holdfast.js';
import { byId, inputOf, makeLine, makeOrder, makeProduct, moneyIn } from './view.js';

const REFRESH_MS = 3_000;
/** Of an order that is paid: a refund may come at any time. */
const REFUND_LOOK_MS = 8_000;
const ORDERS_MAX = 20;
/** @type {Record<string, string>} */
const STATES = { scheduled: 'Opens soon', open: 'Open now', paused: 'Back in a moment', closed: 'Over' };

const { holdfastUrl, saleId, freeShippingFrom, products } = await callShop('GET', '/shop.json');

/** @type {Map<string, number>} quantities by SKU */
const basket = new Map();
/** @type {Map<string, any>} by orderNo, the newest first */
const orders = new Map();
/** @type {any} as Holdfast shows it */
let sale;
/** @type {{ order: any, lines: { name: string, amount: number }[], key: string } | undefined} */
let prepared;
/** @type {{ userId: string, token: string } | undefined} */
let session = JSON.parse(sessionStorage.getItem('session') ?? 'null') ?? undefined;

const holdfast = createClient({ url: holdfastUrl, token: () => session?.token });
const money = (/** @type {number} */ amount) => moneyIn(sale.currency)(amount);

for (const orderNo of readOrderNos()) follow(orderNo).catch(console.warn);
byId('basket').addEventListener('submit', (event) => {
  event.preventDefault();
  void proceed();
});
byId('change').addEventListener('click', () => prepare(undefined));
byId('sign-out').addEventListener('click', () => {
  sessionStorage.removeItem('session');
  location.assign('/');
});
await followSale();

async function followSale() {
  for (;;) {
    try {
      sale = await holdfast.sale(saleId);
      draw();
    } catch (error) {
      const isUnknown = error instanceof HoldfastError && error.status === 404;
      byId('state').textContent = isUnknown ? 'Not announced yet' : 'One moment…';
    }
    await pause(REFRESH_MS);
  }
}

/** The first press shows what the shop's server says it costs, the second one orders. */
async function proceed() {
  const button = byId('proceed');
  button.toggleAttribute('disabled', true);
  byId('note').textContent = '';
  await noteFailure(prepared ? order(prepared) : checkOut());
  button.toggleAttribute('disabled', false);
}

/** @param {Promise<void>} doing */
async function noteFailure(doing) {
  await doing.catch((error) => {
    byId('note').textContent = explain(error);
  });
}

async function checkOut() {
  if (!session) {
    session = await callShop('POST', '/sign-in', { body: { email: inputOf('email').value } });
    sessionStorage.setItem('session', JSON.stringify(session));
  }
  const items = [...basket].map(([sku, quantity]) => ({ sku, quantity }));
  const code = inputOf('code').value.trim();
  const cart = await callShop('POST', '/checkout', { token: session?.token, body: { items, code } });
  // One key for one purchase, however often it has to be sent.
  prepare({ ...cart, key: newKey() });
  if (!cart.isCodeKnown) byId('note').textContent = `We do not know the code ${code}.`;
}

/** @param {NonNullable<typeof prepared>} purchase */
async function order(purchase) {
  try {
    const { orderNo } = await holdfast.place(purchase.order, { idempotencyKey: purchase.key });
    basket.clear();
    keepOrderNos([orderNo, ...readOrderNos()]);
    follow(orderNo, () => void noteFailure(pay(orderNo))).catch(console.warn);
  } catch (error) {
    // Without an answer it may have been placed: the same key finds out.
    if (error instanceof HoldfastError && (error.status === 0 || error.status >= 500)) throw error;
    prepare(undefined);
    throw error;
  }
  prepare(undefined);
}

/** @param {string} orderNo */
async function pay(orderNo) {
  location.assign((await holdfast.pay(orderNo)).url);
}

/**
 * Shows an order until nothing more is to come.
 * @param {string} orderNo
 * @param {() => void} [onPayable] called once
 */
async function follow(orderNo, onPayable) {
  let tell = onPayable;
  for await (const each of holdfast.watch(orderNo)) {
    show(each);
    if (each.status !== 'awaiting_payment') continue;
    tell?.();
    tell = undefined;
  }
  // Of an order that is paid, money may go back.
  while (orders.get(orderNo)?.status === 'paid') {
    await pause(REFUND_LOOK_MS);
    show(await holdfast.order(orderNo));
  }
}

/** @param {import('@holdfast/client').Order} each */
function show(each) {
  orders.set(each.orderNo, each);
  draw();
}

/** @param {typeof prepared} purchase */
function prepare(purchase) {
  prepared = purchase;
  draw();
}

/** All of it anew: the page is small. */
function draw() {
  if (!sale) return;
  const focused = document.activeElement?.getAttribute('aria-label');
  byId('sale').textContent = sale.name;
  byId('state').textContent = STATES[sale.state] ?? sale.state;
  byId('shipping-note').textContent = `Free shipping from ${money(freeShippingFrom)}.`;
  byId('shopper').hidden = !session;
  byId('user').textContent = session?.userId ?? '';
  byId('products').replaceChildren(...sale.skus.map(drawProduct));
  drawBasket();
  byId('orders-section').hidden = orders.size === 0;
  const names = new Map(sale.skus.map((/** @type {any} */ { sku, name }) => [sku, name]));
  byId('orders').replaceChildren(
    ...readOrderNos()
      .flatMap((orderNo) => orders.get(orderNo) ?? [])
      .map((each) => makeOrder(each, { names, money, onPay: () => void noteFailure(pay(each.orderNo)) })),
  );
  const again = [...document.querySelectorAll('button')].find((each) => each.ariaLabel === focused);
  if (focused && again) again.focus();
}

/** @param {any} sku */
function drawProduct(sku) {
  const product = products.find((/** @type {any} */ each) => each.sku === sku.sku);
  return makeProduct(sku, product, {
    quantity: basket.get(sku.sku) ?? 0,
    money,
    onChange(quantity) {
      if (quantity > 0) basket.set(sku.sku, quantity);
      else basket.delete(sku.sku);
      prepare(undefined);
    },
  });
}

function drawBasket() {
  const lines =
    prepared?.lines ??
    sale.skus
      .filter((/** @type {any} */ { sku }) => basket.has(sku))
      .map((/** @type {any} */ { sku, name, unitPrice }) => {
        const quantity = basket.get(sku) ?? 0;
        return { name: `${quantity} × ${name}`, amount: unitPrice * quantity };
      });
  const total = prepared && [makeLine('Total', money(prepared.order.expectedTotal), 'total')];
  byId('empty').hidden = lines.length > 0;
  byId('basket').hidden = lines.length === 0;
  byId('details').hidden = prepared !== undefined;
  byId('change').hidden = prepared === undefined;
  byId('lines').replaceChildren(
    ...lines.map((/** @type {any} */ { name, amount }) =>
      makeLine(name, amount === 0 ? 'Free' : money(amount)),
    ),
    ...(total ?? []),
  );
  inputOf('email').parentElement?.toggleAttribute('hidden', session !== undefined);
  inputOf('email').required = !session;
  byId('proceed').textContent = prepared
    ? `Order and pay ${money(prepared.order.expectedTotal)}`
    : 'Check out';
}

/** Of this shopper, in this browser. */
function readOrderNos() {
  /** @type {string[]} */
  const orderNos = JSON.parse((session && localStorage.getItem(session.userId)) ?? '[]');
  return orderNos;
}

/** @param {string[]} orderNos */
function keepOrderNos(orderNos) {
  if (session) localStorage.setItem(session.userId, JSON.stringify(orderNos.slice(0, ORDERS_MAX)));
}
