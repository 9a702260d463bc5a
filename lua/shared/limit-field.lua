-- The field of `limits` for a SKU and a user, as `limitField` in `src/redis/keys.ts` makes it.
local function limitField(sku, user)
  return (string.gsub(string.gsub(sku, '%%', '%%25'), ':', '%%3A')) .. ':' .. user
end
