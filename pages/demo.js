const SALE_REFRESH_MS = 1500;
const CALL_TIMEOUT_MS = 15_000;
const RETRY_MS = 1000;
const TRIES_MAX = 6;
const LOG_MAX = 60;
const ORDERS_MAX = 50;
const QUANTITY_MAX = 10;

const byId = (id) => document.getElementById(id);
const delay = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What a reload must not lose: who we are, our orders, and purchases whose outcome is not known yet (by SKU). */
const tab = JSON.parse(sessionStorage.getItem('holdfast')) ?? {
  session: null,
  orders: [],
  intents: {},
};
const save = () => sessionStorage.setItem('holdfast', JSON.stringify(tab));
const names = new Map();
const skuCards = new Map();
const orderCards = new Map();
const quiet = { looks: 0, polls: 0 };
let clockSkewMs = 0;

/** One call, with its line in the log. No answer is an answer too: status 0. */
async function call(method, path, { headers = {}, body, isQuiet = () => false } = {}) {
  const startedAt = performance.now();
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
    clockSkewMs = Date.parse(reply.headers.get('Date')) - Date.now() || 0;
  } catch (error) {
    console.warn(error);
  }
  if (!isQuiet(reply)) log(method, path, reply.status, performance.now() - startedAt);
  if (reply.status === 401)
    reply.body.detail = 'This session has ended: start over as another shopper, below.';
  return reply;
}

const isOk = ({ status }) => status >= 200 && status < 300;
/** Repeating with the same key is safe and may help. */
const isRetryable = ({ status, headers }) => status === 0 || (status >= 429 && headers.has('Retry-After'));
const retryAfterMs = ({ headers }) => Number(headers.get('Retry-After')) * 1000 || RETRY_MS;

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
    case 'backlog_full':
      return 'Very busy right now; nothing was taken.';
    case 'outcome_unknown':
      return 'It is not clear whether this went through.';
    default:
      return body.detail ?? `The service answered ${status}.`;
  }
}

function log(method, path, status, durationMs) {
  const short = path.replace(/[^/]{16,}/, (orderNo) => `…${orderNo.slice(-4)}`);
  const cells = [
    new Date().toLocaleTimeString('en-GB'),
    `${method} ${short}`,
    status || 'none',
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
  setText(byId('quiet'), `Not listed: ${quiet.looks} looks at the stock, ${quiet.polls} polls without news.`);
}

/** Nobody looks at a hidden tab, so it asks nothing; coming back to it asks at once. */
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

async function followSale() {
  for (let isFirst = true; ; isFirst = false) {
    const reply = await call('GET', `/v1/sales/${tab.session.saleId}`, {
      isQuiet: (it) => isOk(it) && !isFirst,
    });
    if (isOk(reply)) showSale(reply.body);
    else setText(byId('sale-state'), explain(reply));
    for (const id of ['below', 'foot']) byId(id).hidden = false;
    countQuiet('looks');
    await pauseUntilSeen(SALE_REFRESH_MS);
  }
}

function showSale(sale) {
  setText(byId('sale-name'), sale.name);
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
  if (nowMs < Date.parse(sale.opensAt))
    return `The sale opens on ${new Date(sale.opensAt).toLocaleString('en')}.`;
  if (nowMs >= Date.parse(sale.closesAt)) return 'The sale is over.';
  return `Open. You have ${Math.round(sale.paymentWindowMs / 60_000)} minutes to pay for what you take.`;
}

function createSkuCard(sku, sale) {
  const { element, part } = stamp('sku-template');
  const [button, select, note] = [part('buy'), part('quantity'), part('note')];
  part('name').textContent = sku.name;
  part('price').textContent = money(sku.unitPrice, sale.currency);
  part('limit').textContent = sku.limitPerUser === null ? '' : `max. ${sku.limitPerUser} each`;
  const most = Math.min(sku.limitPerUser ?? QUANTITY_MAX, QUANTITY_MAX);
  for (let quantity = 1; quantity <= most; quantity += 1) select.add(new Option(quantity));
  let isBusy = false;
  let isBuyable = true;
  const show = () => {
    // A purchase without an answer is settled first, by asking for the same again, even when the rest is sold.
    const intent = tab.intents[sku.sku];
    select.disabled = isBusy || intent !== undefined;
    if (intent) select.value = intent.quantity;
    setText(button, isBusy ? 'Buying…' : intent ? 'Ask again' : isBuyable ? 'Buy' : 'Sold out');
    button.setAttribute('aria-label', `${button.textContent}: ${sku.name}`);
    button.setAttribute('aria-disabled', String(isBusy || (!isBuyable && !intent)));
  };
  const say = (text, isBad = false) => {
    setText(note, text);
    note.classList.toggle('bad', isBad);
  };
  button.form.addEventListener('submit', async (event) => {
    event.preventDefault();
    if (button.getAttribute('aria-disabled') === 'true') return;
    isBusy = true;
    const bought = buy(sku.sku, Number(select.value), say);
    show();
    await bought;
    isBusy = false;
    show();
  });
  if (tab.intents[sku.sku]) say('Your last purchase had no answer. Ask again: it buys once.', true);
  byId('skus').append(element);
  return { part, setBuyable: (yes) => ((isBuyable = yes), show()) };
}

/** One click is one intent with one key; however often it is sent, it buys once. */
async function buy(sku, quantity, say) {
  const intent = (tab.intents[sku] ??= { key: newKey(), quantity });
  save();
  const items = [{ sku, quantity: intent.quantity }];
  for (let attempt = 1; ; attempt += 1) {
    const body = { saleId: tab.session.saleId, items };
    const reply = await call('POST', '/v1/orders', {
      headers: { 'Idempotency-Key': intent.key },
      body,
    });
    if (!isRetryable(reply)) {
      delete tab.intents[sku];
      if (isOk(reply)) addOrder({ items, ...reply.body });
      save();
      return say(isOk(reply) ? 'Held for you: see My orders.' : explain(reply), !isOk(reply));
    }
    if (attempt === TRIES_MAX) return say(`${explain(reply)} Ask again: it buys once.`, true);
    say(`${explain(reply)} Trying again (${attempt + 1} of ${TRIES_MAX}).`, true);
    await delay(retryAfterMs(reply));
  }
}

/** Browsers have randomUUID on secure origins alone; a demo may be opened at a plain address. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return crypto.getRandomValues(new Uint32Array(4)).join('-');
}

const REASONS = {
  payment_timeout: 'It was not paid in time.',
  shopper_request: 'As you asked.',
  operator_request: 'The shop cancelled it.',
  stock_exhausted: 'It was sold out after all. Nothing was charged.',
  lost_hold: 'It was sold out after all. Nothing was charged.',
};

/** A paid order stays paid, whatever happens to its money afterwards. */
const PAID = {
  disputed: { word: 'Payment disputed', tone: 'wait', detail: 'Your bank is looking into it.' },
  refunded: { word: 'Refunded', tone: '', detail: 'You have the money back.' },
};

function describe({ status, payment, reason, deadline, isGone }) {
  if (isGone) return { word: 'Unknown', tone: '', detail: 'The service does not know this order any more.' };
  if (status === 'queued') return { word: 'Accepted', tone: '', detail: 'Held for you, being stored…' };
  if (status === 'paid') return PAID[payment] ?? { word: 'Paid', tone: 'good', detail: 'It is yours.' };
  if (status === 'cancelled') return { word: 'Cancelled', tone: '', detail: REASONS[reason] ?? '' };
  if (status === 'failed')
    return { word: 'Failed', tone: 'bad', detail: REASONS[reason] ?? 'Nothing was charged.' };
  if (payment !== 'none') return { word: 'Payment received', tone: 'good', detail: 'Being confirmed…' };
  if (reason !== null) return { word: 'Being cancelled', tone: '', detail: REASONS[reason] ?? '' };
  const seconds = Math.ceil((Date.parse(deadline) - Date.now() - clockSkewMs) / 1000);
  if (seconds <= 0) return { word: 'Awaiting payment', tone: 'wait', detail: 'The time to pay is over.' };
  const clock = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  return { word: 'Awaiting payment', tone: 'wait', detail: `${clock} left to pay`, isPayable: true };
}

function addOrder(order) {
  if (tab.orders.some(({ orderNo }) => orderNo === order.orderNo)) return;
  tab.orders.unshift(order);
  for (const { orderNo } of tab.orders.splice(ORDERS_MAX)) orderCards.get(orderNo)?.element.remove();
  announce(order);
  showOrder(order);
  void followOrder(order);
}

/** Polls as the service says, until the status is final. */
async function followOrder(order) {
  while (order.pollAfterMs !== null && !order.isGone) {
    await pauseUntilSeen(order.pollAfterMs);
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
}

function updateOrder(order, change) {
  // Answers may overtake each other; a status never goes back.
  if (change.version < order.version) return;
  const before = describe(order).word;
  Object.assign(order, change);
  save();
  if (describe(order).word !== before) announce(order);
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
  part('pay').setAttribute('aria-disabled', String(!isPayable));
  part('pay').setAttribute('aria-label', `Pay for ${nameItems(order)}`);
  part('cancel').setAttribute('aria-label', `Cancel ${nameItems(order)}`);
  const hadFocus = part('actions').contains(document.activeElement);
  part('actions').hidden = !isPayable && order.status !== 'queued';
  if (hadFocus && part('actions').hidden) element.focus({ preventScroll: true });
  byId('no-orders').hidden = true;
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
  // Opened while it still counts as the click's; browsers block it later.
  const page = window.open('', '_blank');
  const url = await act('payment', order, part);
  if (!url) return page?.close();
  if (!page) return location.assign(url);
  page.opener = null;
  page.location.replace(url);
}

/** Asks for a payment or a cancellation. Answers where to pay, if that was asked for and is possible. */
async function act(action, order, part) {
  const reply = await call('POST', `/v1/orders/${order.orderNo}/${action}`);
  setText(part('note'), isOk(reply) ? '' : explain(reply));
  const view = reply.body.status ? reply.body : reply.body.order;
  if (view?.version) updateOrder(order, view);
  return reply.body.url;
}

const nameItems = ({ items }) =>
  items.map(({ sku, quantity }) => `${quantity} × ${names.get(sku) ?? sku}`).join(', ');
const announce = (order) => setText(byId('announcer'), `${nameItems(order)}: ${describe(order).word}`);

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
while (!tab.session) {
  const reply = await call('POST', '/demo/token');
  if (isOk(reply)) tab.session = reply.body;
  else setText(byId('sale-state'), explain(reply));
  if (!isOk(reply)) await delay(retryAfterMs(reply));
}
save();
setText(byId('who'), `You are ${tab.session.userId}.`);
tab.orders.toReversed().forEach(showOrder);
tab.orders.forEach((order) => void followOrder(order));
setInterval(() => tab.orders.forEach(showOrder), 1000);
await followSale();
