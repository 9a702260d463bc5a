/** `npm run sale`: makes the catalogue's sale in Holdfast, or brings it up to date. It may be repeated. */

import { createClient, explain, isOk } from './holdfast.js';
import { catalogue } from './settings.js';

const call = createClient('publisher', 'sales:read sales:write');
const { saleId, ...terms } = catalogue.sale;
const path = `/v1/admin/sales/${saleId}`;

const found = await call('GET', path);
if (!isOk(found) && found.status !== 404) fail(found);
const isNew = found.status === 404;

const published = await call('PUT', path, {
  // No other change is overwritten, and no other new sale.
  headers: isNew ? { 'if-none-match': '*' } : { 'if-match': found.headers.get('etag') ?? '' },
  body: {
    ...terms,
    // Charges are in the ticket, so no order may come without one.
    ticketRequired: true,
    skus: catalogue.products.map(({ sku, title, price, stock, limitPerUser, reference, metadata }) => ({
      sku,
      name: title,
      unitPrice: price,
      total: stock,
      ...(limitPerUser !== undefined && { limitPerUser }),
      reference,
      metadata,
    })),
  },
});
if (published.status === 412)
  console.log('Another program has changed the sale just now: look, and run again.');
if (!isOk(published)) fail(published);

const isSame = found.headers.get('etag') === published.headers.get('etag');
const outcome = isSame ? 'is as the catalogue has it' : 'was changed';
const { state, version, skus } = published.body;
console.log(`The sale ${saleId} ${isNew ? 'was made' : outcome}: ${state}, version ${version}`);
console.table(
  skus.map((/** @type {any} */ { sku, unitPrice, total, available, held, sold }) => ({
    sku,
    price: unitPrice / 100,
    total,
    available,
    held,
    sold,
  })),
);

/**
 * @param {import('./holdfast.js').Answer} answer
 * @returns {never}
 */
function fail(answer) {
  console.error(`The sale ${saleId} was not published: ${explain(answer)}`);
  process.exit(1);
}
