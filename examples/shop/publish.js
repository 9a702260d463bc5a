/** `npm run sale`: makes the catalogue's sale in Holdfast, or brings it up to date. It may be repeated. */

import { explain, isRefusal, openHoldfast } from './holdfast.js';
import { catalogue } from './settings.js';

const holdfast = openHoldfast('publisher', 'sales:read sales:write');
const { saleId, ...terms } = catalogue.sale;

const found = await holdfast.getShopSale(saleId).catch((error) => {
  if (!isRefusal(error, 'sale_not_found')) fail(error);
});
const before = found?.headers.get('etag');

const sale = {
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
};
// A patch leaves alone what the catalogue does not say. No change of others is overwritten.
const published = await (
  before
    ? holdfast.patchSale(saleId, sale, { headers: { 'If-Match': before } })
    : holdfast.putSale(saleId, sale, { headers: { 'If-None-Match': '*' } })
).catch(fail);

const isSame = before === published.headers.get('etag');
const outcome = isSame ? 'is as the catalogue has it' : 'was changed';
const { state, version, skus } = published.data;
console.log(`The sale ${saleId} ${before ? outcome : 'was made'}: ${state}, version ${version}`);
console.table(
  skus.map(({ sku, unitPrice, total, available, held, sold }) => ({
    sku,
    price: unitPrice / 100,
    total,
    available,
    held,
    sold,
  })),
);

/**
 * @param {unknown} error
 * @returns {never}
 */
function fail(error) {
  if (isRefusal(error, 'version_conflict'))
    console.log('Another program has changed the sale just now: look, and run again.');
  console.error(`The sale ${saleId} was not published: ${explain(error)}`);
  process.exit(1);
}
