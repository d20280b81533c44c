-- Finds the gateways to which users are connected.
--
-- KEYS     for each user: hash: gateways, each with the revision of its entry
-- ARGV[1]  the revision that gateways write that receive no events of their own
--
-- Returns the run of this server, and for each user its gateways with commas between them, '*' among them if one of them has
-- that revision. Of a server that started again, the entries may be those of an earlier state.
local answer = { string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') }
for i, key in ipairs(KEYS) do
  local entries = redis.call('HGETALL', key)
  local gateways = {}
  for at = 1, #entries, 2 do
    gateways[#gateways + 1] = entries[at]
    if entries[at + 1] == ARGV[1] then
      gateways[#gateways + 1] = '*'
    end
  end
  answer[i + 1] = table.concat(gateways, ',')
end
return answer
