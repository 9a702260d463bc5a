/** The names of Redis' keys and the form of an order there, which other versions read too. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { STORES_FORMAT } from '../../../src/deployment.ts';
import { orderHash } from '../../../src/orders/reserve.redis.ts';
import { limitField, orderKeys, returnMark, saleKeys, wholeSale } from '../../../src/redis/keys.ts';
import { repoDir } from '../../install/repo-dir.ts';

const ORDER_NO = 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG';

export function showStoredForms() {
  const { idem, ticket, order, refused, ...ofSale } = saleKeys(wholeSale('demo'));
  return {
    format: STORES_FORMAT,
    shared: readSharedKeys(),
    sale: {
      ...ofSale,
      idem: idem('user:7', 'key'),
      ticket: ticket('digest'),
      order: order(ORDER_NO),
      refused: [refused('second', 3_600), refused('sums', 0)],
      orderAlone: orderKeys(ORDER_NO).order,
    },
    limit: limitField('lamp:red', 'user:7'),
    returns: [returnMark(ORDER_NO, 'stock', ''), returnMark(ORDER_NO, 'limit', 'r7')],
    // The form alone: an empty registry leaves descriptions out.
    order: z.toJSONSchema(orderHash, {
      io: 'input',
      unrepresentable: 'any',
      reused: 'inline',
      metadata: z.registry(),
    }),
  };
}

/** Keys of no sale, and where keys begin that others make: with `{}` for what varies. */
function readSharedKeys(): string[] {
  const src = join(repoDir, 'src');
  const texts = readdirSync(src, { recursive: true, encoding: 'utf8' })
    .filter((name) => /^redis\/.*\.ts$|\.redis\.ts$/.test(name))
    .map((name) => readFileSync(join(src, name), 'utf8'));
  const keys = texts.flatMap((text) => [...text.matchAll(/(?<quote>['`])(?<key>holdfast:.*?)\k<quote>/g)]);
  return [
    ...new Set(keys.map(({ groups }) => groups?.['key']?.replaceAll(/\$\{.*?\}/g, '{}') ?? '')),
  ].toSorted();
}
