-- Notes a process's sign of life and returns all live processes of its kind, sorted by id.
--
-- By the server's clock: a process whose own clock is wrong is neither dead nor immortal.
--
-- KEYS[1]  sorted set of processes
-- ARGV[1]  the process's id, or '' to ask only
-- ARGV[2]  seconds of silence after which a process counts as dead
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
local alive = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(alive)
return alive
