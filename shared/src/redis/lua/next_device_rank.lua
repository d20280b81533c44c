-- Gives a new connection of a device its rank: the connection with the highest rank is the newest one.
--
-- KEYS[1]  the last rank of the device
-- ARGV[1]  seconds for which it is kept
--
-- A rank is the server's clock in microseconds, or one more than the last one, so that ranks rise also if two connections come
-- in the same microsecond or the clock was set back. A repeated call gives a higher rank.
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[1]) or '0')
local rank = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
redis.call('SET', KEYS[1], rank, 'EX', ARGV[1])
return rank
