-- Writes what an order consists of, as held. The names are those of `orderHash` in `src/orders/reserve.redis.ts`.
-- What follows are more fields and their values.
local function writeOrder(orderKey, order, ...)
  redis.call('HSET', orderKey,
    'sale_id', order.saleId, 'user_id', order.userId, 'items', order.items, 'total', order.total,
    'currency', order.currency, 'idempotency_key', order.idempotencyKey, 'reserved_at', order.reservedAt,
    'payment_window', order.paymentWindow, 'carried', order.carried, 'epoch', order.epoch, 'hold', 'held', ...)
end
