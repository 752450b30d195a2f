-- claim: a node takes its share of attempts reserved on this incarnation of it. reserved > reserved, reserved > running.
-- KEYS: 1 incarnations hash, 2 phases hash, 3 active zset, 4 ended zset, 5 events stream, 6 specs hash
-- ARGV: 1 node, 2 incarnation, 3 events to keep, then items (see _common.lua; no held sets change)
-- Answer: {'stale'} if another incarnation of the node registered since, else per item two elements: as in _common.lua,
--         and the stored spec ('' unless ok). No store, no start.

local legal = {['reserved>reserved'] = true, ['reserved>running'] = true}

if not incarnation_is(KEYS[1], ARGV[1], ARGV[2]) then return {'stale'} end
local answers, passed = check(legal, KEYS[2], 4)
local ids, places, answer = {}, {}, {}
for n = 1, #answers do
  answer[2 * n - 1], answer[2 * n] = answers[n], ''
  if answers[n] == 'ok' then
    ids[#ids + 1] = ARGV[4 + (n - 1) * 6]
    places[#places + 1] = 2 * n
  end
end
if #ids > 0 then
  local specs = redis.call('HMGET', KEYS[6], unpack(ids))
  for n = 1, #ids do answer[places[n]] = specs[n] or '' end
end
write(passed, KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[3])
return answer
