-- Records the heartbeat of a process and returns all live processes of its kind, sorted by id.
--
-- Times are those of the server, so that a wrong clock of a process has no effect.
--
-- KEYS[1]  sorted set of processes
-- ARGV[1]  the id of the process, or '' to record no heartbeat
-- ARGV[2]  seconds without a heartbeat after which a process is dead
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
-- First the command that needs memory: after another write, Redis would accept it even above its limit of memory, and the
-- heartbeat is the check of whether sequence numbers can be assigned.
if ARGV[1] ~= '' then
  redis.call('ZADD', KEYS[1], now, ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
local alive = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(alive)
return alive
