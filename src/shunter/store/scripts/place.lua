-- place: the leader reserves what it decided, or takes a reservation back. queued > reserved, reserved > queued.
-- KEYS: 1 leader hash, 2 phases hash, 3 active zset, 4 ended zset, 5 events stream, 6.. held sets of the nodes concerned
-- ARGV: 1 epoch, 2 token, 3 events to keep, then items (see _common.lua)
-- Answer: {'stale'} if the caller no longer leads, else one element per item.

local legal = {['queued>reserved'] = true, ['reserved>queued'] = true}

if not leads(KEYS[1], ARGV[1], ARGV[2]) then return {'stale'} end
local answers, passed = check(legal, KEYS[2], 4)
write(passed, KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[3])
return answers
