/** Makes the page's parts. All text is set as text, so that nothing in it is taken for markup. */

const FEW = 5;

/** @param {string} id */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** @param {string} id */
export function inputOf(id) {
  const element = byId(id);
  if (!(element instanceof HTMLInputElement)) throw new Error(`#${id} takes no input`);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, any>} properties
 * @param {(Node | string)[]} children
 */
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** @param {string} currency */
export function moneyIn(currency) {
  const format = new Intl.NumberFormat('en-GB', { style: 'currency', currency });
  const digits = format.resolvedOptions().maximumFractionDigits ?? 0;
  return (/** @type {number} */ minorUnits) => format.format(minorUnits / 10 ** digits);
}

/**
 * @param {any} sku as Holdfast shows it
 * @param {{ text: string, picture: string }} product as the shop has it
 * @param {{ quantity: number, money: (amount: number) => string,
 *   onChange: (quantity: number) => void }} options
 */
export function makeProduct(sku, product, { quantity, money, onChange }) {
  const most = Math.min(sku.available, sku.limitPerUser ?? Infinity);
  return make(
    'li',
    { className: 'card product' },
    make('img', { src: `/${product.picture}`, alt: '' }),
    make(
      'div',
      {},
      make('h3', { textContent: sku.name }),
      make('p', { className: 'soft', textContent: product.text }),
      make(
        'p',
        { className: 'price' },
        make('strong', { textContent: money(sku.unitPrice) }),
        make('span', {
          className: sku.available <= FEW ? 'few' : 'soft',
          textContent: sku.available > 0 ? `${sku.available} left` : 'Sold out',
        }),
      ),
      make(
        'div',
        { className: 'amount' },
        makeStep('−', `One less: ${sku.name}`, quantity > 0, () => onChange(quantity - 1)),
        make('span', { textContent: quantity === 0 ? 'Add' : String(quantity) }),
        makeStep('+', `Add: ${sku.name}`, quantity < most, () => onChange(quantity + 1)),
      ),
    ),
  );
}

/**
 * @param {string} sign
 * @param {string} ariaLabel
 * @param {boolean} isPossible
 * @param {() => void} onclick
 */
function makeStep(sign, ariaLabel, isPossible, onclick) {
  return make('button', { type: 'button', textContent: sign, ariaLabel, disabled: !isPossible, onclick });
}

/** @param {string} name @param {string} amount */
export function makeLine(name, amount, className = '') {
  return make(
    'li',
    { className },
    make('span', { textContent: name }),
    make('span', { textContent: amount }),
  );
}

/** @type {Record<string, string>} */
const WORDS = {
  queued: 'Being placed…',
  awaiting_payment: 'Awaiting payment',
  paid: 'Paid',
  cancelled: 'Cancelled',
  failed: 'Not placed: nothing was charged',
};

/** A paid order stays paid, whatever happens to its money afterwards. @type {Record<string, string>} */
const PAID_WORDS = {
  disputed: 'Payment disputed',
  partially_refunded: 'Partly refunded',
  refunded: 'Refunded',
};

/**
 * @param {any} order as Holdfast shows it
 * @param {{ names: Map<string, string>, money: (amount: number) => string, onPay: () => void }} options
 */
export function makeOrder(order, { names, money, onPay }) {
  const items = order.items.map(
    (/** @type {any} */ { sku, quantity }) => `${quantity} × ${names.get(sku) ?? sku}`,
  );
  const isPayable = order.status === 'awaiting_payment' && !order.closing;
  const word = (order.status === 'paid' && PAID_WORDS[order.payment]) || WORDS[order.status];
  return make(
    'li',
    { className: 'card order' },
    make(
      'div',
      {},
      make('h3', { textContent: `Order ${order.reference ?? order.orderNo}` }),
      make('p', { className: 'soft', textContent: items.join(' · ') }),
    ),
    make(
      'p',
      {},
      make('strong', { textContent: money(order.total) }),
      ...(order.refunded > 0 ? [` · ${money(order.refunded)} refunded`] : []),
    ),
    isPayable
      ? make('button', { type: 'button', className: 'primary', textContent: 'Pay now', onclick: onPay })
      : make('span', { className: order.status === 'paid' ? 'chip' : 'chip wait', textContent: word }),
  );
}
