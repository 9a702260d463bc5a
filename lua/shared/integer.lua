-- A number as text without an exponent.
local function integer(number)
  return string.format('%.0f', number)
end
