/** `@holdfast/client`: what shoppers do. The back office's calls are in `@holdfast/client/admin`. */

export { createClient, isFinal, newKey } from './client.ts';
export type {
  Challenge,
  Client,
  Order,
  OrderPage,
  OrderSearch,
  PaymentPage,
  PlaceOptions,
  PlaceOrder,
  Sale,
  Ticket,
} from './client.ts';
export { HoldfastError } from './send.ts';
export type { ClientOptions, TokenSource } from './send.ts';
