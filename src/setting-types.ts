/** The kinds of values that settings have. */

import { z } from 'zod';

export const list = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .pipe(z.array(z.string().min(1)).min(1));
/** The same, its type knowing that there is a first. */
export const nonEmptyList = list.pipe(z.tuple([z.string()], z.string()));

export function wholeNumber(min: number, max: number) {
  return z.coerce.number().int().min(min).max(max);
}

/** docs/configuration.md shows the schemes; zod keeps no readable trace of them. */
export function urlOf(...schemes: string[]) {
  return z.url({ protocol: new RegExp(`^(${schemes.join('|')})$`), abort: true }).meta({ schemes });
}

export const httpUrl = urlOf('http', 'https');
/** As browsers name it: no path, no slash at the end. */
export const origin = httpUrl.refine(
  (url) => new URL(url).origin === url,
  'is an origin: scheme, host and port alone',
);

export const port = wholeNumber(0, 65_535);
