/** `npm run storefront`: the shop's own server. Its pages call Holdfast themselves, from another origin. */

import { readFileSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname } from 'node:path';
import { jwks, readShopperToken, signShopperToken } from '../keys.js';
import { catalogue, holdfastUrl, shopUrl } from '../settings.js';
import { parseCart, prepareOrder } from './checkout.js';

const BODY_BYTES_MAX = 16 * 1024;
/** Stands for the shop's own accounts: who types an address is that shopper. */
const EMAIL = /^[^\s@]{1,64}@[^\s@]{1,190}$/u;
/** @type {Record<string, string>} */
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
};
const POLICY = `default-src 'self'; connect-src 'self' ${holdfastUrl}; frame-ancestors 'none'; base-uri 'none'`;

const pageDir = new URL('page/', import.meta.url);
const files = new Map(
  readdirSync(pageDir).map((name) => [
    `/${name === 'index.html' ? '' : name}`,
    {
      type: TYPES[extname(name)] ?? 'application/octet-stream',
      content: readFileSync(new URL(name, pageDir)),
    },
  ]),
);

// Holdfast's client for the browser, as `npm install` brought it.
const clientDir = new URL('.', import.meta.resolve('@holdfast/client'));
for (const name of readdirSync(clientDir, { recursive: true, encoding: 'utf8' })) {
  if (!name.endsWith('.js')) continue;
  files.set(`/client/${name}`, { type: TYPES['.js'] ?? '', content: readFileSync(new URL(name, clientDir)) });
}

const shop = {
  holdfastUrl,
  saleId: catalogue.sale.saleId,
  freeShippingFrom: catalogue.shipping.freeFrom,
  products: catalogue.products.map(({ sku, text, picture }) => ({ sku, text, picture })),
};

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) send(response, 500, { error: 'Something broke here. Please try again.' });
  });
});
const { hostname, port } = new URL(shopUrl);
server.listen(Number(port), hostname, () => console.log(`The shop is open: ${shopUrl}`));
process.once('SIGTERM', () => server.close().closeAllConnections());

/**
 * @param {import('node:http').IncomingMessage} request
 * @param {import('node:http').ServerResponse} response
 */
async function answer(request, response) {
  const path = (request.url ?? '').split('?')[0] ?? '';
  const file = request.method === 'GET' ? files.get(path) : undefined;
  if (file) {
    const headers = { 'content-type': file.type, 'content-security-policy': POLICY };
    response.writeHead(200, headers).end(file.content);
    return undefined;
  }
  switch (`${request.method} ${path}`) {
    case 'GET /.well-known/jwks.json':
      return send(response, 200, jwks);
    case 'GET /shop.json':
      return send(response, 200, shop);
    case 'POST /sign-in':
      return signIn(response, await readJson(request));
    case 'POST /checkout':
      return checkOut(response, await readUser(request), await readJson(request));
    default:
      return send(response, 404, { error: 'There is nothing here.' });
  }
}

/**
 * @param {import('node:http').ServerResponse} response
 * @param {any} body
 */
async function signIn(response, body) {
  const userId = String(body?.email ?? '');
  if (!EMAIL.test(userId)) return send(response, 400, { error: 'That is no e-mail address.' });
  return send(response, 200, { userId, token: await signShopperToken(userId) });
}

/**
 * @param {import('node:http').ServerResponse} response
 * @param {string | undefined} userId
 * @param {unknown} body
 */
async function checkOut(response, userId, body) {
  if (userId === undefined) return send(response, 401, { error: 'Please sign in again.' });
  const cart = parseCart(body);
  if (!cart) return send(response, 400, { error: 'This cart cannot be ordered.' });
  return send(response, 200, await prepareOrder(userId, cart));
}

/** @param {import('node:http').IncomingMessage} request */
async function readUser({ headers }) {
  const token = /^Bearer (.+)$/.exec(headers.authorization ?? '')?.[1];
  return token === undefined ? undefined : readShopperToken(token);
}

/**
 * @param {import('node:http').IncomingMessage} request
 * @returns {Promise<unknown>} undefined: it is no JSON, or too much
 */
async function readJson(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) return undefined;
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString());
  } catch {
    return undefined;
  }
}

/**
 * @param {import('node:http').ServerResponse} response
 * @param {number} status
 * @param {unknown} body
 */
function send(response, status, body) {
  response
    .writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
    .end(JSON.stringify(body));
}
