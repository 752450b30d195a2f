-- resign: a coordinator ends: it gives up the leader's lease, if that is still its own, and is there no more.
-- KEYS: 1 leader hash, 2 coordinators hash
-- ARGV: 1 epoch, 2 token (both '': it does not lead), 3 id of the coordinator ('': it never said that it is there)
-- Answer: 1 if the lease was given up, 0 if it was another's.

local at = redis.call('HMGET', KEYS[1], 'epoch', 'token')
if ARGV[3] ~= '' then redis.call('HDEL', KEYS[2], ARGV[3]) end
if ARGV[1] == '' or at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'token', '', 'until_ms', 0)
return 1
