-- renew: a node incarnation is alive; the answer lists what it should have.
-- KEYS: 1 incarnations hash, 2 seen hash, 3 held set of the node, 4 phases hash
-- ARGV: 1 node, 2 incarnation
-- Answer: {'stale'} if another incarnation registered since, else {'ok', job id, value, ...} of all that the node holds.

local at = redis.call('HGET', KEYS[1], ARGV[1])
if not at or string.match(at, '^(%S+) ') ~= ARGV[2] then return {'stale'} end
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[1], string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000)))
local answer = {'ok'}
local ids = redis.call('SMEMBERS', KEYS[3])
for first = 1, #ids, 1000 do -- in parts: unpack has a limit, the number of jobs without GPUs and cores has none
  local last = math.min(first + 999, #ids)
  local values = redis.call('HMGET', KEYS[4], unpack(ids, first, last))
  for n = first, last do
    answer[#answer + 1] = ids[n]
    answer[#answer + 1] = values[n - first + 1] or ''
  end
end
return answer
