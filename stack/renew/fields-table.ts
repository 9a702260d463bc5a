/** Renders the table of an order's fields in docs/architecture.md from their description. */

import { CONTENT } from '../../src/orders/content.ts';
import { tableOf } from './markdown.ts';

export function renderFields(): string {
  return tableOf(
    ['field', 'given by', 'Redis', 'MySQL', 'signed', 'fingerprint', 'cleared with'],
    CONTENT.map(({ name, givenBy, kept, signed, identifies, clearedWith }) => [
      `\`${name}\``,
      givenBy,
      name === 'orderNo' ? 'key' : kept === 'own' ? 'field' : '`carried`',
      name === 'items' ? 'table' : kept === 'carried' ? '`carried`' : 'column',
      signed ? 'yes' : '',
      identifies ? 'yes' : '',
      clearedWith ?? '',
    ]),
  );
}
