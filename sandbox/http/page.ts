/**
 * The page on which a shopper "pays": plain HTML without a script, so it works on any phone and in any
 * browser.
 */

import { createHash } from 'node:crypto';

export interface PaymentPageView {
  reference: string;
  /** Minor units. */
  amount: number;
  currency: string;
  expiresAtMs: number;
  status: 'open' | 'processing' | 'paid' | 'voided' | 'expired';
  paymentId: string | null;
  /** The last attempt failed, and the session is still open. */
  lastAttemptFailed: boolean;
  payAction: string;
  failAction: string;
  /** The shop's page; null where the sandbox knows none. */
  backUrl: string | null;
}

const STYLE = `
:root { color-scheme: light dark; --ink: #17212b; --soft: #56626e; --line: #d5dce3; --card: #fff; --ground: #eef2f5;
  --accent: #0b6b4f; --accent-ink: #fff; --warn: #fff3d6; --warn-ink: #5c4200; --bad: #a3261d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8edf2; --soft: #a3afbb; --line: #36424e; --card: #1b242d;
  --ground: #10161c; --accent: #4fd1a5; --accent-ink: #06251a; --warn: #3d3110; --warn-ink: #ffe3a1; --bad: #ff9b91; } }
* { box-sizing: border-box; }
body { margin: 0; min-height: 100vh; display: flex; flex-direction: column; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
.sandbox { margin: 0; padding: .625rem 1rem; background: var(--warn); color: var(--warn-ink); text-align: center;
  font-size: .9375rem; }
main { width: min(27rem, 100% - 2rem); margin: clamp(1rem, 8vh, 6rem) auto; padding: clamp(1.25rem, 5vw, 2rem);
  background: var(--card); border: 1px solid var(--line); border-radius: .875rem; }
h1 { margin: 0; font-size: 1rem; font-weight: 600; color: var(--soft); }
.amount { margin: .25rem 0 1.25rem; font-size: clamp(2rem, 10vw, 2.75rem); font-weight: 700; line-height: 1.15;
  letter-spacing: -.02em; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
dl { margin: 0; border-top: 1px solid var(--line); }
dl div { padding: .75rem 0; border-bottom: 1px solid var(--line); }
dt { color: var(--soft); font-size: .875rem; }
dd { margin: 0; overflow-wrap: anywhere; }
.outcome { margin: 1.25rem 0 0; padding-left: .75rem; border-left: .25rem solid var(--soft); }
.outcome.paid { border-color: var(--accent); }
.outcome.failed { border-color: var(--bad); }
form { margin: 1.25rem 0 0; }
form + form { margin-top: .75rem; }
button, .back { display: block; width: 100%; min-height: 3rem; padding: .625rem 1rem; border: 1px solid transparent;
  border-radius: .625rem; font: inherit; font-weight: 600; text-align: center; text-decoration: none; cursor: pointer; }
.pay { background: var(--accent); color: var(--accent-ink); }
.fail { background: transparent; border-color: var(--line); color: var(--ink); }
.back { margin-top: .75rem; color: var(--accent); }
.outcome + .back { margin-top: 1.25rem; border-color: var(--line); }
button:hover { filter: brightness(1.1); }
button:focus-visible, .back:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
`;

/** The page loads nothing, runs nothing, and posts to its own origin only. */
export const PAGE_POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

const HEADINGS: Readonly<Record<PaymentPageView['status'], string>> = {
  open: 'Amount to pay',
  processing: 'Payment in progress',
  paid: 'Amount paid',
  voided: 'Payment closed',
  expired: 'Payment expired',
};

export function renderPaymentPage(view: PaymentPageView): string {
  const amount = formatMoney(view.amount, view.currency);
  return renderDocument(
    `${HEADINGS[view.status]}: ${amount}`,
    `<h1>${HEADINGS[view.status]}</h1>
<p class="amount">${escapeHtml(amount)}</p>
<dl>
<div><dt>Order</dt><dd>${escapeHtml(view.reference)}</dd></div>
${renderLastDetail(view)}
</dl>
${renderOutcome(view)}
${view.status === 'open' ? renderButtons(view, amount) : ''}
${view.backUrl === null ? '' : `<a class="back" href="${escapeHtml(view.backUrl)}">Back to the shop</a>`}`,
  );
}

/** For an address that leads nowhere, and for a refusal met in a browser. */
export function renderMessagePage(title: string): string {
  return renderDocument(title, `<h1>${escapeHtml(title)}</h1>`);
}

function renderDocument(title: string, content: string): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)} · Sandbox</title>
<style>${STYLE}</style>
</head>
<body>
<p class="sandbox"><strong>Sandbox.</strong> No real money moves here.</p>
<main>
${content}
</main>
</body>
</html>
`;
}

function renderButtons(view: PaymentPageView, amount: string): string {
  return `<form method="post" action="${escapeHtml(view.payAction)}"><button class="pay">Pay ${escapeHtml(amount)}</button></form>
<form method="post" action="${escapeHtml(view.failAction)}"><button class="fail">Let this payment fail</button></form>`;
}

function renderOutcome(view: PaymentPageView): string {
  switch (view.status) {
    case 'open':
      return view.lastAttemptFailed
        ? '<p class="outcome failed" role="status">The payment failed, and nothing was charged. You can try again.</p>'
        : '';
    case 'processing':
      return '<p class="outcome" role="status"><strong>Processing.</strong> The payment takes a while. You need not wait here.</p>';
    case 'paid':
      return `<p class="outcome paid" role="status"><strong>Paid.</strong> The shop is notified of your payment.</p>`;
    case 'voided':
      return '<p class="outcome" role="status">The shop has closed this payment. Nothing was charged.</p>';
    case 'expired':
      return '<p class="outcome" role="status">The time to pay is over. Nothing was charged.</p>';
    default:
      return view.status satisfies never;
  }
}

/** Once money was taken, its id matters, and the deadline no more. */
function renderLastDetail(view: PaymentPageView): string {
  return view.paymentId === null
    ? `<div><dt>Payable until</dt><dd>${renderTime(view.expiresAtMs)}</dd></div>`
    : `<div><dt>Payment</dt><dd>${escapeHtml(view.paymentId)}</dd></div>`;
}

function renderTime(timeMs: number): string {
  const iso = new Date(timeMs).toISOString();
  const text = new Intl.DateTimeFormat('en-GB', {
    dateStyle: 'long',
    timeStyle: 'short',
    timeZone: 'UTC',
  }).format(timeMs);
  return `<time datetime="${iso}">${escapeHtml(text)} UTC</time>`;
}

/** The division is for the eye alone, and exact to the last digit shown for any amount below 10^15. */
function formatMoney(minorUnits: number, currency: string): string {
  const format = new Intl.NumberFormat('en', { style: 'currency', currency });
  const fractionDigits = format.resolvedOptions().maximumFractionDigits ?? 0;
  return format.format(minorUnits / 10 ** fractionDigits);
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}
