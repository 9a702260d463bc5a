/** The storefront: shows the sale, checks out a basket, and follows the shopper's orders. */

import { call, callPatiently, explain, isOk, pause } from './holdfast.js';
import { byId, inputOf, makeLine, makeOrder, makeProduct, moneyIn } from './view.js';

const REFRESH_MS = 3_000;
/** Of an order that is paid: a refund may come at any time. */
const REFUND_LOOK_MS = 8_000;
const ORDERS_MAX = 20;
/** @type {Record<string, string>} */
const STATES = { scheduled: 'Opens soon', open: 'Open now', paused: 'Back in a moment', closed: 'Over' };

const { holdfastUrl, saleId, freeShippingFrom, products } = (await call('GET', '/shop.json')).body;

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

const money = (/** @type {number} */ amount) => moneyIn(sale.currency)(amount);

for (const orderNo of readOrderNos()) void follow(orderNo);
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
    const answer = await call('GET', `${holdfastUrl}/v1/sales/${saleId}`);
    if (isOk(answer)) {
      sale = answer.body;
      draw();
    } else {
      byId('state').textContent = answer.status === 404 ? 'Not announced yet' : 'One moment…';
    }
    await pause(REFRESH_MS);
  }
}

/** The first press shows what the shop's server says it costs, the second one orders. */
async function proceed() {
  const button = byId('proceed');
  button.toggleAttribute('disabled', true);
  byId('note').textContent = '';
  const note = await (prepared ? order(prepared) : checkOut());
  byId('note').textContent = note ?? '';
  button.toggleAttribute('disabled', false);
}

/** @returns {Promise<string | undefined>} what went wrong */
async function checkOut() {
  if (!session) {
    const signedIn = await call('POST', '/sign-in', { body: { email: inputOf('email').value } });
    if (!isOk(signedIn)) return explain(signedIn);
    session = signedIn.body;
    sessionStorage.setItem('session', JSON.stringify(session));
  }
  const items = [...basket].map(([sku, quantity]) => ({ sku, quantity }));
  const code = inputOf('code').value.trim();
  const answer = await call('POST', '/checkout', { token: session?.token, body: { items, code } });
  if (!isOk(answer)) return explain(answer);
  // One key for one purchase, however often it has to be sent.
  prepare({ ...answer.body, key: crypto.randomUUID() });
  return answer.body.isCodeKnown ? undefined : `We do not know the code ${code}.`;
}

/**
 * @param {NonNullable<typeof prepared>} purchase
 * @returns {Promise<string | undefined>} what went wrong
 */
async function order(purchase) {
  const placed = await callPatiently('POST', `${holdfastUrl}/v1/orders`, {
    token: session?.token,
    headers: { 'Idempotency-Key': purchase.key },
    body: purchase.order,
  });
  if (!isOk(placed)) {
    // Without an answer it may have been placed: the same key finds out.
    if (placed.status !== 0 && placed.status < 500) prepare(undefined);
    return explain(placed);
  }
  basket.clear();
  prepare(undefined);
  const { orderNo } = placed.body;
  keepOrderNos([orderNo, ...readOrderNos()]);
  void follow(orderNo, () => void pay(orderNo));
  return undefined;
}

/** @param {string} orderNo */
async function pay(orderNo) {
  const page = await callPatiently('POST', `${holdfastUrl}/v1/orders/${orderNo}/payment`, {
    token: session?.token,
  });
  if (isOk(page)) location.assign(page.body.url);
  else byId('note').textContent = explain(page);
}

/**
 * Shows an order until nothing more is to come.
 * @param {string} orderNo
 * @param {() => void} [onPayable] called once
 */
async function follow(orderNo, onPayable) {
  for (let version = -1, tell = onPayable; ;) {
    const headers = version < 0 ? {} : { 'If-None-Match': `"${version}"` };
    const answer = await call('GET', `${holdfastUrl}/v1/orders/${orderNo}`, {
      token: session?.token,
      headers,
    });
    if (isOk(answer)) {
      ({ version } = answer.body);
      orders.set(orderNo, answer.body);
      draw();
      if (answer.body.status === 'awaiting_payment') {
        tell?.();
        tell = undefined;
      }
      if (answer.body.pollAfterMs === null && answer.body.status !== 'paid') return;
    } else if (answer.status === 401 || answer.status === 404) {
      return;
    }
    await pause(orders.get(orderNo)?.pollAfterMs ?? REFUND_LOOK_MS);
  }
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
      .map((each) => makeOrder(each, { names, money, onPay: () => void pay(each.orderNo) })),
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
