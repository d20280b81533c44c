-- Records that the password of an attempt was right: the attempt is given back, and the account knows the address.
--
-- KEYS, ARGV[1] to ARGV[6]  as those of take_attempt.lua, with all three keys
-- ARGV[7]  most addresses that an account knows; the one without a success for longest is forgotten first
--
-- A repeated call may give one attempt too many back.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function give_back(key, attempts, per_ms)
  local full = attempts > 0 and tonumber(redis.call('GET', key) or '0') or 0
  if full > 0 then
    full = full - per_ms * 1000 / attempts
    if full > now then
      redis.call('SET', key, string.format('%.0f', full), 'PX', math.max(1, math.ceil((full - now) / 1000)))
    else
      redis.call('DEL', key)
    end
  end
end
local known_for = tonumber(ARGV[6])
local known = redis.call('ZSCORE', KEYS[3], ARGV[5])
redis.call('ZADD', KEYS[3], string.format('%.0f', now / 1000), ARGV[5])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', '(' .. string.format('%.0f', now / 1000 - known_for))
redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -tonumber(ARGV[7]) - 1)
redis.call('PEXPIRE', KEYS[3], known_for)
give_back(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]))
if not known or tonumber(known) < now / 1000 - known_for then
  give_back(KEYS[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
end
return 0
