-- Records whether users are connected to a gateway.
--
-- KEYS     for each user: hash: gateways, each with the revision of its entry
-- ARGV[1]  the gateway
-- ARGV[2]  the revision: a higher one than in any earlier call of this gateway
-- ARGV[3]  seconds until an entry expires
-- ARGV[4]  and further: for each user '1' if it is connected, or '0'
--
-- A call that arrives behind a later one changes nothing, in particular it removes no entry that the later one has made: a
-- command that timed out may still be in the buffers of a server that was stopped for a while.
local gateway, revision = ARGV[1], tonumber(ARGV[2])
for i, key in ipairs(KEYS) do
  local known = tonumber(redis.call('HGET', key, gateway) or '0')
  if known < revision then
    if ARGV[i + 3] == '1' then
      redis.call('HSET', key, gateway, ARGV[2])
      redis.call('EXPIRE', key, ARGV[3])
    elseif known > 0 then
      redis.call('HDEL', key, gateway)
    end
  end
end
return 1
