/** `@holdfast/client`: what shoppers do. The back office's calls are in `@holdfast/client/admin`. */

export { createClient, isFinal, newKey } from './client.ts';
export type {
  Client,
  Order,
  OrderPage,
  OrderSearch,
  PaymentPage,
  PlaceOptions,
  PlaceOrder,
  Sale,
} from './client.ts';
export { HoldfastError } from './send.ts';
export type { ClientOptions, TokenSource } from './send.ts';
