-- report: a node says how members of attempts ended. running > running, running > stopping, stopping > stopping,
--         running > ended, stopping > ended, running > queued, stopping > queued.
-- KEYS: 1 incarnations hash, 2 phases hash, 3 active zset, 4 ended zset, 5 events stream, 6.. held sets of the nodes concerned
-- ARGV: 1 node, 2 incarnation, 3 events to keep, then items (see _common.lua)
-- Answer: {'stale'} if another incarnation of the node registered since, else one element per item.

local legal = {
  ['running>running'] = true, ['running>stopping'] = true, ['stopping>stopping'] = true,
  ['running>ended'] = true, ['stopping>ended'] = true, ['running>queued'] = true, ['stopping>queued'] = true,
}

if not incarnation_is(KEYS[1], ARGV[1], ARGV[2]) then return {'stale'} end
local answers, passed = check(legal, KEYS[2], 4)
write(passed, KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[3])
return answers
