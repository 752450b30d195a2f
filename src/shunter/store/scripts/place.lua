-- place: the leader reserves what it decided, or takes a reservation back. queued > reserved, reserved > queued.
-- KEYS: 1 leader hash, 2 phases hash, 3 active zset, 4 ended zset, 5 events stream, 6.. held sets of the nodes concerned
-- ARGV: 1 epoch, 2 token, 3 events to keep, 4 run id of the store ('' : any), then items (see _common.lua)
-- Answer: {'stale'} if the caller no longer leads, {'restarted'} in another run of the store, else one element per item.

local legal = {['queued>reserved'] = true, ['reserved>queued'] = true}

if not leads(KEYS[1], ARGV[1], ARGV[2]) then return {'stale'} end
if ARGV[4] ~= '' and run_id() ~= ARGV[4] then return {'restarted'} end
local answers, passed = check(legal, KEYS[2], 5)
write(passed, KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[3])
return answers
