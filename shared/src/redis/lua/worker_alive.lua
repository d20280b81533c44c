-- Notes a worker's sign of life and returns all live workers, sorted by id.
--
-- By the server's clock: a worker whose own clock is wrong is neither dead nor immortal.
--
-- KEYS[1]  sorted set of workers
-- ARGV[1]  the worker's id, or '' to ask only
-- ARGV[2]  seconds of silence after which a worker counts as dead
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
local workers = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(workers)
return workers
