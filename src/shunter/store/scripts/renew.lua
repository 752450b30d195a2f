-- renew: a node incarnation is alive and asks for its lease; the answer lists what it should have.
-- The rules are `renewed` in domain/lease.py.
-- KEYS: 1 incarnations hash, 2 seen hash, 3 held set of the node, 4 phases hash, 5 renewals hash, 6 unfenced hash, 7 nodes hash
-- ARGV: 1 node, 2 incarnation, 3 token of the registration, 4 number, 5 last number that was carried out, 6 name of its lease
--       terms, 7 '1' if its keeper enforces a deadline, 8 '1' if it shall run without one
-- Answer: {'stale'} if a later incarnation registered since; {'lost'} if it was declared lost, or the store knows nothing of it
--         (it forgot, or holds another data set now); {'old'} if a later renewal was applied before, else {'ok', unfenced record or '', job id, value, ...} of all that the node holds.

local at = redis.call('HGET', KEYS[1], ARGV[1])
local incarnation = at and string.match(at, '^(%S+) ')
if incarnation ~= ARGV[2] then
  local later = incarnation and string.gsub(incarnation, '^-', '') > ARGV[2]
  return {later and 'stale' or 'lost'}
end
local token, number, before = string.match(redis.call('HGET', KEYS[5], ARGV[1]) or '', '^(%S+) (%d+) %d+ (%S+)$')
if token == ARGV[3] and tonumber(number) >= tonumber(ARGV[4]) then return {'old'} end
local record = redis.call('HGET', KEYS[6], ARGV[1]) or ''
local unfenced = ARGV[8] == '1' or redis.call('HLEN', KEYS[7]) == 1
if unfenced and record == '' then
  record = ARGV[3] .. '.' .. ARGV[4]
  redis.call('HSET', KEYS[6], ARGV[1], record)
elseif not unfenced and ARGV[7] == '1' then
  redis.call('HDEL', KEYS[6], ARGV[1])
end
local terms = ARGV[5] == '0' and before or ARGV[6] -- its keeper may still go by an earlier worker's deadline
redis.call('HSET', KEYS[5], ARGV[1], table.concat({ARGV[3], ARGV[4], ARGV[5], terms}, ' '))
local time = redis.call('TIME')
redis.call('HSET', KEYS[2], ARGV[1], string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000)))
local answer = {'ok', unfenced and record or ''}
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
