/** Where the shop's parts and Holdfast are; every default suits this machine and `holdfast.env`. */

import { mkdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const { env } = process;

export const holdfastUrl = env['HOLDFAST_URL'] ?? 'http://127.0.0.1:3000';
/** The storefront's origin, which is also the issuer of the shop's tokens. */
export const shopUrl = env['SHOP_URL'] ?? 'http://127.0.0.1:4000';
/** Where the back office takes what Holdfast pushes. */
export const backOfficeUrl = env['BACK_OFFICE_URL'] ?? 'http://127.0.0.1:4001';
/** The shop's key, its book of what was fulfilled, and the secret of its endpoint. Never in a repository. */
export const dataDir = env['SHOP_DATA'] ?? fileURLToPath(new URL('data', import.meta.url));

mkdirSync(dataDir, { recursive: true, mode: 0o700 });

/**
 * @typedef {{ sku: string, title: string, text: string, picture: string, price: number, stock: number,
 *   limitPerUser?: number, reference: string, metadata: Record<string, string> }} Product
 * @typedef {{ saleId: string, name: string, currency: string, opensAt: string, closesAt: string,
 *   limitPerUser: number, reference: string, metadata: Record<string, string> }} Sale
 * @typedef {{ sale: Sale, products: Product[],
 *   shipping: { code: string, name: string, amount: number, freeFrom: number },
 *   discounts: Record<string, { code: string, name: string, percent: number }> }} Catalogue
 */

/** @type {Catalogue} Prices are in cents. */
export const catalogue = JSON.parse(readFileSync(new URL('catalogue.json', import.meta.url), 'utf8'));
