/** The demo shop: shows the sale, buys, follows the orders of this tab, and lists the calls that it makes. */

import { earnTicket } from './work.js';

const SALE_REFRESH_MS = 1500;
const CALL_TIMEOUT_MS = 15_000;
const RETRY_MS = 1000;
const TRIES_MAX = 6;
const LOG_MAX = 60;
const ORDERS_MAX = 50;
const QUANTITY_MAX = 10;

const byId = (id) => document.getElementById(id);
const delay = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * What a reload, or the way to the payment page and back, must not lose. `intents`: purchases without an
 * answer, by SKU. `ticket`: worked for, for a purchase that was refused, so it is good for another.
 */
const tab = {
  session: null,
  orders: [],
  intents: {},
  ticket: null,
  log: [],
  ...JSON.parse(sessionStorage.getItem('holdfast')),
};
const save = () => sessionStorage.setItem('holdfast', JSON.stringify(tab));
const names = new Map();
const skuCards = new Map();
const orderCards = new Map();
const quiet = { refreshes: 0, polls: 0 };
/** Notices that the service does not answer: each takes itself back when it answers again. */
const outages = new Map();
/** The service's clock minus this browser's. */
let clockSkewMs = 0;
let isWorkAsked = false;

/** One call, with its line in the log. No answer is an answer too: status 0. */
async function call(method, path, { headers = {}, body, isQuiet = () => false } = {}) {
  const [startedAt, sentAtMs] = [performance.now(), Date.now()];
  let reply = { status: 0, headers: new Headers(), body: { detail: 'The service does not answer.' } };
  try {
    const token = tab.session && { Authorization: `Bearer ${tab.session.token}` };
    const type = body && { 'Content-Type': 'application/json' };
    const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
    const response = await fetch(path, {
      method,
      headers: { ...token, ...type, ...headers },
      ...(body && { body: JSON.stringify(body) }),
      signal,
    });
    const isJson = response.headers.get('Content-Type')?.includes('json');
    reply = {
      status: response.status,
      headers: response.headers,
      body: isJson ? await response.json() : {},
    };
    adjustClock(Date.parse(reply.headers.get('Date')), sentAtMs);
  } catch (error) {
    console.warn(error);
  }
  if (!isQuiet(reply)) log(method, path, reply.status, performance.now() - startedAt);
  if (isOk(reply) || reply.status === 304) endOutages();
  if (reply.status === 401)
    reply.body.detail = 'This session has ended: start over as another shopper, below.';
  return reply;
}

/**
 * The Date header gives whole seconds of some moment between sending and now. The estimate moves only where
 * it contradicts that, so a browser whose clock is right keeps its own.
 */
function adjustClock(dateMs, sentAtMs) {
  if (Number.isNaN(dateMs)) return;
  const [lowestMs, highestMs] = [dateMs - Date.now(), dateMs + 1000 - sentAtMs];
  clockSkewMs = Math.min(Math.max(clockSkewMs, lowestMs), highestMs);
}

/** `element` shows that there was no answer. With the next good answer of any call, `takeBack` runs. */
function showOutage(element, takeBack) {
  outages.set(element, takeBack);
}

function endOutages() {
  for (const takeBack of outages.values()) takeBack();
  outages.clear();
}

const isOk = ({ status }) => status >= 200 && status < 300;
/** Repeating with the same key is safe and may help. */
const isRetryable = ({ status, headers }) => status === 0 || (status >= 429 && headers.has('Retry-After'));
const retryAfterMs = ({ headers }) => Number(headers.get('Retry-After')) * 1000 || RETRY_MS;

/** Repeats what may be repeated and may help, and says so. */
async function callPatiently(method, path, options, say) {
  for (let attempt = 1; ; attempt += 1) {
    const reply = await call(method, path, options);
    if (attempt === TRIES_MAX || !isRetryable(reply)) return reply;
    say(`${explain(reply)} Trying again (${attempt + 1} of ${TRIES_MAX}).`, true);
    await delay(retryAfterMs(reply));
  }
}

function explain({ status, body }) {
  switch (body.code) {
    case 'sold_out':
      return body.available > 0 ? `Only ${body.available} left.` : 'Sold out.';
    case 'limit_reached':
      return `At most ${body.limit} per person; you have ${body.bought}.`;
    case 'sale_paused':
      return 'The sale is paused. Please come back in a moment.';
    case 'sale_not_open_yet':
      return `The sale opens on ${new Date(body.opensAt).toLocaleString('en')}.`;
    case 'ticket_used':
      return 'The ticket for this purchase has bought an order before. Buy again to work for another.';
    case 'ticket_invalid':
      return body.reason === 'expired'
        ? 'The ticket for this purchase has run out. Buy again to work for another.'
        : body.detail;
    case 'challenge_invalid':
      return body.reason === 'expired' ? 'The work took too long. Nothing was bought.' : body.detail;
    case 'backlog_full':
      return 'Very busy right now; nothing was taken.';
    case 'outcome_unknown':
      return 'It is not clear whether this went through.';
    default:
      return body.detail ?? `The service answered ${status}.`;
  }
}

function log(method, path, status, durationMs) {
  const entry = { atMs: Date.now(), method, path, status, durationMs };
  tab.log = [entry, ...tab.log].slice(0, LOG_MAX);
  save();
  showLogged(entry);
}

function showLogged({ atMs, method, path, status, durationMs }) {
  const short = path.replace(/[^/]{16,}/, (orderNo) => `…${orderNo.slice(-4)}`);
  const cells = [
    new Date(atMs).toLocaleTimeString('en-GB'),
    `${method} ${short}`,
    status || 'no answer',
    `${Math.round(durationMs)} ms`,
  ];
  const line = Object.assign(document.createElement('li'), { title: path });
  line.append(...cells.map((text) => Object.assign(document.createElement('span'), { textContent: text })));
  if (status === 0 || status >= 400) line.children[2].className = 'bad';
  byId('log').prepend(line);
  while (byId('log').children.length > LOG_MAX) byId('log').lastChild.remove();
}

function countQuiet(what) {
  quiet[what] += 1;
  const refreshes = plural(quiet.refreshes, 'refresh', 'refreshes');
  setText(
    byId('quiet'),
    `Not listed: ${refreshes} of the stock, ${plural(quiet.polls, 'poll')} without a change.`,
  );
}

/** A hidden tab asks nothing; when it is shown again, it asks at once. */
function pauseUntilSeen(ms) {
  return new Promise((resolve) => {
    const wake = () => {
      if (document.hidden) return;
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    document.addEventListener('visibilitychange', wake);
  });
}

/** @param returned the order with which the shopper comes back from the payment page */
async function followSale(returned) {
  for (let isFirst = true; ; isFirst = false) {
    const reply = await call('GET', `/v1/sales/${tab.session.saleId}`, {
      isQuiet: (it) => isOk(it) && !isFirst,
    });
    if (isOk(reply)) showSale(reply.body);
    else setText(byId('sale-state'), explain(reply));
    for (const id of ['below', 'foot']) byId(id).hidden = false;
    // Not before: the catalogue above it would push it out of view again.
    if (isFirst && returned) bringIntoView(returned);
    countQuiet('refreshes');
    await pauseUntilSeen(SALE_REFRESH_MS);
  }
}

function showSale(sale) {
  setText(byId('sale-name'), sale.name);
  document.title = `${sale.name} · Holdfast`;
  isWorkAsked = sale.verification !== undefined;
  setText(byId('sale-state'), saleState(sale));
  const format = new Intl.NumberFormat('en');
  for (const sku of sale.skus) {
    names.set(sku.sku, sku.name);
    if (!skuCards.has(sku.sku)) skuCards.set(sku.sku, createSkuCard(sku, sale));
    const { part, setBuyable } = skuCards.get(sku.sku);
    setText(
      part('left'),
      sku.available === 0
        ? 'None left'
        : `${format.format(sku.available)} of ${format.format(sku.total)} left`,
    );
    part('bar').style.transform = `scaleX(${sku.available / Math.max(sku.total, 1)})`;
    setBuyable(sku.available > 0);
  }
}

function saleState(sale) {
  const nowMs = Date.now() + clockSkewMs;
  if (sale.paused) return 'The sale is paused.';
  const opensAtMs = Date.parse(sale.opensAt);
  if (nowMs < opensAtMs) {
    const canWork = isWorkAsked && nowMs >= opensAtMs - sale.verification.aheadMs;
    const ahead = canWork ? ' Press Buy before: then your device has done its work when it opens.' : '';
    return `The sale opens on ${new Date(opensAtMs).toLocaleString('en')}.${ahead}`;
  }
  if (nowMs >= Date.parse(sale.closesAt)) return 'The sale is over.';
  const seconds = Math.round(sale.paymentWindowMs / 1000);
  const window = seconds < 60 ? plural(seconds, 'second') : plural(Math.round(seconds / 60), 'minute');
  const work = isWorkAsked ? ' Before each purchase your device works for some seconds.' : '';
  return `Open. Once you buy, you have ${window} to pay.${work}`;
}

function createSkuCard(sku, sale) {
  const { element, part } = stamp('sku-template');
  const [button, stop, select, note] = [part('buy'), part('stop'), part('quantity'), part('note')];
  part('name').textContent = sku.name;
  part('price').textContent = money(sku.unitPrice, sale.currency);
  part('limit').textContent = sku.limitPerUser === null ? '' : `at most ${sku.limitPerUser} per person`;
  const most = Math.min(sku.limitPerUser ?? QUANTITY_MAX, QUANTITY_MAX);
  for (let quantity = 1; quantity <= most; quantity += 1) select.add(new Option(quantity));
  let isBusy = false;
  let isBuyable = true;
  /** Ends the work for a purchase, while there is some. */
  let work = null;
  const show = () => {
    // A purchase without an answer is settled first, by asking for the same again, even when the rest is
    // sold.
    const intent = tab.intents[sku.sku];
    select.disabled = isBusy || intent !== undefined;
    if (intent) select.value = intent.quantity;
    const idle = intent ? 'Try again' : isBuyable ? 'Buy' : 'Sold out';
    setText(button, work ? 'Working…' : isBusy ? 'Buying…' : idle);
    button.setAttribute('aria-label', `${button.textContent}: ${sku.name}`);
    button.setAttribute('aria-disabled', String(isBusy || (!isBuyable && !intent)));
    button.classList.toggle('working', work !== null);
    if (!work && document.activeElement === stop) button.focus();
    part('choice').hidden = work !== null;
    stop.hidden = work === null;
  };
  const showWork = (controller) => {
    work = controller;
    show();
  };
  stop.setAttribute('aria-label', `Cancel the purchase: ${sku.name}`);
  stop.addEventListener('click', () => work?.abort());
  let heldOrder = null;
  const say = (text, isBad = false) => {
    heldOrder = null;
    outages.delete(note);
    setText(note, text);
    note.classList.toggle('bad', isBad);
  };
  const sayUnanswered = () => say('Your last purchase had no answer. Try again: you buy only once.', true);
  /** The word follows the order that was bought last here, so that it never outlives the hold. */
  const showHeld = (order = heldOrder) => {
    if (!order) return;
    say(isHeld(order) ? 'Held for you: see My orders.' : '');
    heldOrder = order;
  };
  button.form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (button.getAttribute('aria-disabled') === 'true') return;
    isBusy = true;
    const bought = buy(sku.sku, Number(select.value), { note, say, sayUnanswered, showWork });
    show();
    const order = await bought;
    isBusy = false;
    show();
    if (!order) return;
    showHeld(order);
    // Only where the shopper still waits: a focus that has moved on is left alone.
    if ([button, document.body].includes(document.activeElement)) bringIntoView(order);
  });
  if (tab.intents[sku.sku]) sayUnanswered();
  byId('skus').append(element);
  return { part, showHeld, setBuyable: (yes) => ((isBuyable = yes), show()) };
}

/**
 * On a narrow screen My orders is below the catalogue: the focus goes to the order, so the keyboard goes on
 * from there.
 */
function bringIntoView({ orderNo }) {
  const { element } = orderCards.get(orderNo);
  const { top, bottom } = element.getBoundingClientRect();
  if (top >= 0 && bottom <= innerHeight) return;
  element.focus({ preventScroll: true });
  element.scrollIntoView({ block: 'center' });
}

/**
 * One click is one intent with one key; however often it is sent, it buys once. Returns the order, if there
 * is one.
 */
async function buy(sku, quantity, card) {
  const { note, say, sayUnanswered } = card;
  if (!tab.intents[sku]) {
    const ticket = isWorkAsked ? await findTicket(card) : undefined;
    if (ticket === null) return undefined;
    tab.intents[sku] = { key: newKey(), quantity, ticket };
    save();
  }
  const intent = tab.intents[sku];
  const items = [{ sku, quantity: intent.quantity }];
  const headers = { 'Idempotency-Key': intent.key };
  const body = { saleId: tab.session.saleId, items, ticket: intent.ticket?.ticket };
  const reply = await callPatiently('POST', '/v1/orders', { headers, body }, say);
  if (isRetryable(reply)) {
    say(`${explain(reply)} Try again: you buy only once.`, true);
    if (reply.status === 0) showOutage(note, sayUnanswered);
    return undefined;
  }
  delete tab.intents[sku];
  const order = isOk(reply) ? addOrder({ items, ...reply.body }) : undefined;
  // A refused purchase leaves its ticket good, unless it was refused for that.
  if (!order && !reply.body.code?.startsWith('ticket_')) tab.ticket = intent.ticket;
  save();
  const left = tab.ticket ? ' The work that was done counts for your next purchase.' : '';
  say(order ? '' : `${explain(reply)}${left}`, !order);
  return order;
}

/** One that a refused purchase has left, or that is worked for now. Null: `say` said why there is none. */
async function findTicket({ say, showWork }) {
  const kept = tab.ticket;
  tab.ticket = null;
  if (kept && Date.parse(kept.expiresAt) > Date.now() + clockSkewMs) return kept;
  const controller = new AbortController();
  const sayMeanwhile = (...said) => controller.signal.aborted || say(...said);
  const post = (path, body) =>
    callPatiently('POST', `/v1/sales/${tab.session.saleId}/${path}`, { body }, sayMeanwhile);
  showWork(controller);
  const reply = await earnTicket({ post, say: sayMeanwhile, controller });
  showWork(null);
  if (reply && isOk(reply)) return reply.body;
  say(reply ? explain(reply) : 'You cancelled. Nothing was bought.', reply !== undefined);
  return null;
}

/** Browsers have randomUUID on secure origins alone; a demo may be opened at a plain address. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
}

const REASONS = {
  payment_timeout: 'It was not paid in time.',
  shopper_request: 'As you asked.',
  wait_timeout: 'It took too long. Nothing was charged.',
  operator_request: 'The shop cancelled it.',
  stock_exhausted: 'It was sold out after all. Nothing was charged.',
  lost_hold: 'It was sold out after all. Nothing was charged.',
  lost_before_stored: 'The shop lost it. Nothing was charged.',
};

/** A paid order stays paid, whatever happens to its money afterwards. */
function describePaid(order) {
  const { payment, refunded = 0, total, currency } = order;
  const back = `${money(refunded, currency)} of ${money(total, currency)}`;
  if (payment === 'disputed')
    return { word: 'Payment disputed', tone: 'wait', detail: 'Your bank is looking into it.' };
  if (payment === 'refunded') return { word: 'Refunded', tone: '', detail: 'You have the money back.' };
  if (payment === 'partially_refunded')
    return { word: 'Partly refunded', tone: 'good', detail: `You have ${back} back.` };
  return { word: 'Paid', tone: 'good', detail: 'It is yours.' };
}

const isFinal = ({ status }) => status === 'paid' || status === 'cancelled' || status === 'failed';
/** A wish to cancel is recorded, and the order has not ended yet. */
const isClosing = (order) => order.closing && !isFinal(order);
const isHeld = (order) => !isFinal(order) && !isClosing(order) && !order.isGone;

function describe(order) {
  const { status, reason, reservedAt, deadline, isGone } = order;
  if (isGone) return { word: 'Unknown', tone: '', detail: 'The service does not know this order any more.' };
  if (isClosing(order)) return { word: 'Being cancelled…', tone: '', detail: REASONS[reason] ?? '' };
  if (status === 'queued') return { word: 'Accepted', tone: '', detail: 'Held for you, being stored…' };
  if (status === 'paid') return describePaid(order);
  if (status === 'cancelled') return { word: 'Cancelled', tone: '', detail: REASONS[reason] ?? '' };
  if (status === 'failed')
    return { word: 'Failed', tone: 'bad', detail: REASONS[reason] ?? 'Nothing was charged.' };
  const leftMs = Date.parse(deadline) - Date.now() - clockSkewMs;
  // The clocks differ by a moment: there is never more time left than the order had at first.
  const seconds = Math.ceil(Math.min(leftMs, Date.parse(deadline) - Date.parse(reservedAt)) / 1000);
  if (seconds <= 0) return { word: 'Awaiting payment', tone: 'wait', detail: 'The time to pay is over.' };
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  return { word: 'Awaiting payment', tone: 'wait', detail: `${clock} left to pay`, isPayable: true };
}

/**
 * What became of the shopper's last visit to the payment page; the service itself reports only money that
 * arrived.
 */
const ATTEMPTS = {
  open: 'No payment has arrived yet.',
  failed: 'The payment page reported that your last payment failed. You can pay again.',
  processing: 'The payment page reported that your payment takes a while.',
  paid: 'The payment page reported your payment. It has not arrived here yet.',
  voided: 'The payment page has closed this payment. No payment has arrived.',
  expired: 'The time on the payment page is over. No payment has arrived.',
};
const describeAttempt = (order) =>
  order.status === 'awaiting_payment' && !isClosing(order) ? (ATTEMPTS[order.attempt] ?? '') : '';

function addOrder(order) {
  const known = tab.orders.find(({ orderNo }) => orderNo === order.orderNo);
  if (known) return known;
  tab.orders.unshift(order);
  for (const { orderNo } of tab.orders.splice(ORDERS_MAX)) orderCards.get(orderNo)?.element.remove();
  announce(order);
  showOrder(order);
  void followOrder(order);
  return order;
}

/** Polls as the service says, until the status is final. */
async function followOrder(order) {
  while (order.pollAfterMs !== null && !order.isGone) {
    await pauseUntilSeen(order.pollAfterMs);
    await lookAt(order);
  }
}

async function lookAt(order) {
  const headers = order.etag ? { 'If-None-Match': order.etag } : {};
  const reply = await call('GET', `/v1/orders/${order.orderNo}`, {
    headers,
    isQuiet: ({ status }) => status === 304,
  });
  if (reply.status === 304) countQuiet('polls');
  else if (reply.status === 200) updateOrder(order, { ...reply.body, etag: reply.headers.get('ETag') });
  else if (reply.status === 404) updateOrder(order, { isGone: true });
  else await delay(retryAfterMs(reply));
}

/** Money may go back long after the order was paid: it is looked at again each time that the page is seen. */
async function lookAfterMoney() {
  if (document.hidden) return;
  for (const order of tab.orders.filter(({ status }) => status === 'paid')) await lookAt(order);
}

function updateOrder(order, change) {
  // Answers may overtake each other; a status never goes back.
  if (change.version < order.version) return;
  const before = describe(order).word;
  Object.assign(order, change);
  save();
  if (describe(order).word !== before) {
    announce(order);
    setText(orderCards.get(order.orderNo).part('note'), '');
  }
  showOrder(order);
}

function showOrder(order) {
  if (!orderCards.has(order.orderNo)) orderCards.set(order.orderNo, createOrderCard(order));
  const { element, part } = orderCards.get(order.orderNo);
  const { word, tone, detail, isPayable = false } = describe(order);
  setText(part('items'), nameItems(order));
  setText(part('word'), word);
  part('word').className = `badge ${tone}`;
  setText(part('detail'), detail);
  setText(part('attempt'), describeAttempt(order));
  part('attempt').classList.toggle('bad', order.attempt === 'failed');
  part('pay').setAttribute('aria-disabled', String(!isPayable));
  part('pay').setAttribute('aria-label', `Pay for ${nameItems(order)}`);
  part('cancel').setAttribute('aria-label', `Cancel ${nameItems(order)}`);
  const hadFocus = part('actions').contains(document.activeElement);
  part('actions').hidden = !isPayable && !(order.status === 'queued' && isHeld(order));
  if (hadFocus && part('actions').hidden) element.focus({ preventScroll: true });
  byId('no-orders').hidden = true;
  for (const { sku } of order.items) skuCards.get(sku)?.showHeld();
}

function createOrderCard(order) {
  const card = stamp('order-template');
  const { element, part } = card;
  part('total').textContent = money(order.total, order.currency);
  part('number').textContent = order.orderNo;
  part('pay').addEventListener('click', () => void pay(order, part));
  part('cancel').addEventListener('click', () => void act('cancel', order, part));
  const { temporalUiUrl } = tab.session;
  part('workflow').href =
    `${temporalUiUrl}/namespaces/default/workflows/${encodeURIComponent(order.orderNo)}`;
  part('workflow').hidden = !temporalUiUrl;
  byId('orders').prepend(element);
  return card;
}

async function pay(order, part) {
  if (part('pay').getAttribute('aria-disabled') === 'true') return;
  const url = await act('payment', order, part);
  if (!url) return;
  order.attempt = 'open';
  save();
  location.assign(url);
}

/**
 * Back from the payment page, whose link names the order and the outcome. It is a hint, shown only on an
 * order of this tab.
 */
function takeReturn() {
  const query = new URLSearchParams(location.search);
  const order = tab.orders.find(({ orderNo }) => orderNo === query.get('orderNo'));
  if (!order || !Object.hasOwn(ATTEMPTS, query.get('payment'))) return;
  order.attempt = query.get('payment');
  save();
  history.replaceState(null, '', location.pathname);
  return order;
}

/** Asks for a payment or a cancellation. Answers where to pay, if that was asked for and is possible. */
async function act(action, order, part) {
  const reply = await call('POST', `/v1/orders/${order.orderNo}/${action}`);
  setText(part('note'), isOk(reply) ? '' : explain(reply));
  if (reply.status === 0) showOutage(part('note'), () => setText(part('note'), ''));
  else outages.delete(part('note'));
  const view = isOk(reply) && reply.body.status ? reply.body : reply.body.order;
  if (view?.version) updateOrder(order, view);
  return reply.body.url;
}

const nameItems = ({ items }) =>
  items.map(({ sku, quantity }) => `${quantity} × ${names.get(sku) ?? sku}`).join(', ');
const announce = (order) => setText(byId('announcer'), `${nameItems(order)}: ${describe(order).word}`);

const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** Text alone, so nothing that was inserted can become markup; untouched where nothing changed. */
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function stamp(templateId) {
  const element = byId(templateId).content.firstElementChild.cloneNode(true);
  return { element, part: (name) => element.querySelector(`[data-${name}]`) };
}

function money(minorUnits, currency) {
  const format = new Intl.NumberFormat('en', { style: 'currency', currency });
  return format.format(minorUnits / 10 ** format.resolvedOptions().maximumFractionDigits);
}

byId('start-over').addEventListener('click', () => {
  sessionStorage.removeItem('holdfast');
  location.reload();
});
tab.log.toReversed().forEach(showLogged);
while (!tab.session) {
  const reply = await call('POST', '/demo/token');
  if (isOk(reply)) tab.session = reply.body;
  else setText(byId('sale-state'), explain(reply));
  if (!isOk(reply)) await delay(retryAfterMs(reply));
}
save();
setText(byId('who'), `You are ${tab.session.userId}.`);
const returned = takeReturn();
tab.orders.toReversed().forEach(showOrder);
tab.orders.forEach((order) => void followOrder(order));
setInterval(() => tab.orders.forEach(showOrder), 1000);
document.addEventListener('visibilitychange', () => void lookAfterMoney());
void lookAfterMoney();
await followSale(returned);
