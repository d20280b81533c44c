-- Opens a new inbox. It records updates from now on, so that none is missed while the database is read.
--
-- KEYS[1]  sorted set: conversation by version
-- KEYS[2]  hash: the last_seq of each conversation, and properties of the inbox
-- ARGV[1]  a token: only the last caller may fill the inbox
-- ARGV[2]  seconds after which an inbox expires that is not filled
--
-- Returns its first version: conversations from the database are filled in below.
local time = redis.call('TIME')
local base = string.format('%.0f', time[1] * 1000000 + time[2])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('HSET', KEYS[2], '#token', ARGV[1], '#run', run, '#last', base)
redis.call('EXPIRE', KEYS[2], ARGV[2])
return base
