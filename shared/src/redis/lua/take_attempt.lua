-- Counts an attempt in token buckets, unless one of them is empty: then in none.
--
-- KEYS[1]  the bucket of an address; or of an account and an address
-- KEYS[2]  the bucket of the account, for addresses that it does not know (optional, with KEYS[3])
-- KEYS[3]  sorted set: the addresses that the account knows, by the time of the last success in milliseconds since 1970
-- ARGV[1]  attempts at once after a pause, of the first bucket; 0 for no limit
-- ARGV[2]  milliseconds in which as many become free again
-- ARGV[3]  the same two of the second bucket
-- ARGV[5]  the address
-- ARGV[6]  milliseconds for which an address is known
--
-- The value of a bucket is the time at which it is full again, in microseconds since 1970, by the server's clock. It expires
-- at that time. If the clock was set back, it counts as an empty bucket.
--
-- Returns the milliseconds until the next attempt is possible, 0 if this one is counted. A repeated call counts twice.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function take(key, attempts, per_ms)
  local per, interval = per_ms * 1000, per_ms * 1000 / attempts
  local full = tonumber(redis.call('GET', key) or '0') or 0
  full = math.max(now, math.min(full, now + per)) + interval
  -- A microsecond of tolerance for the division.
  if full - now > per + 1 then
    return full - now - per
  end
  return 0, full
end
local takes, wait = {}, 0
local function consider(key, attempts, per_ms)
  if attempts > 0 then
    local lacks, full = take(key, attempts, per_ms)
    wait = math.max(wait, lacks)
    takes[#takes + 1] = {key, full}
  end
end
consider(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if KEYS[2] then
  local known = redis.call('ZSCORE', KEYS[3], ARGV[5])
  if not known or tonumber(known) < now / 1000 - tonumber(ARGV[6]) then
    consider(KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
  end
end
if wait > 0 then
  return math.ceil(wait / 1000)
end
for _, bucket in ipairs(takes) do
  redis.call('SET', bucket[1], string.format('%.0f', bucket[2]), 'PX', math.max(1, math.ceil((bucket[2] - now) / 1000)))
end
return 0
