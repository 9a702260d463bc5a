/** What Redis keeps from one version to the next: the names of its keys, and the form of an order there. */

import { STORES_FORMAT } from '../../src/deployment.ts';
import { orderHash } from '../../src/orders/reserve.redis.ts';
import { limitField, orderKeys, returnMark, saleKeys, wholeSale } from '../../src/redis/keys.ts';
import { showInput } from './schemas.ts';
import { readSources, textOf, walk } from './syntax.ts';

const ORDER_NO = 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG';

export function showStoredForms() {
  const { idem, ticket, order, ...ofSale } = saleKeys(wholeSale('demo'));
  return {
    format: STORES_FORMAT,
    shared: readSharedKeys(),
    sale: {
      ...ofSale,
      idem: idem('user:7', 'key'),
      ticket: ticket('digest'),
      order: order(ORDER_NO),
      orderAlone: orderKeys(ORDER_NO).order,
    },
    limit: limitField('lamp:red', 'user:7'),
    returns: [returnMark(ORDER_NO, 'stock', ''), returnMark(ORDER_NO, 'limit', 'r7')],
    order: showInput(orderHash),
  };
}

/** Keys of no sale, and where keys begin that others make. */
function readSharedKeys(): string[] {
  const found = new Set<string>();
  for (const { program } of readSources('src')) {
    walk(program, (node) => {
      const text = textOf(node);
      if (text?.startsWith('holdfast:')) found.add(text);
    });
  }
  return [...found].toSorted();
}
