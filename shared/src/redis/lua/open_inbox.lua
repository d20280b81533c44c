-- Begins an inbox anew: from here on it takes notes, so that nothing is missed while the database is read.
--
-- KEYS[1]  sorted set: conversation by version
-- KEYS[2]  hash: the last number of each conversation, and facts about the inbox
-- ARGV[1]  a token: whoever began last may fill it
-- ARGV[2]  seconds after which an inbox that is not filled is forgotten
--
-- Returns its first version: what the database says is filled in below.
local time = redis.call('TIME')
local base = string.format('%.0f', time[1] * 1000000 + time[2])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], '#token', ARGV[1], '#run', run, '#last', base)
redis.call('EXPIRE', KEYS[2], ARGV[2])
return base
