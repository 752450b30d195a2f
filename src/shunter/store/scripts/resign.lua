-- resign: give up the leader's lease, if it is still the caller's.
-- KEYS: 1 leader hash
-- ARGV: 1 epoch, 2 token
-- Answer: 1 if it was given up, 0 if it was another's.

local at = redis.call('HMGET', KEYS[1], 'epoch', 'token')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'token', '', 'until_ms', 0)
return 1
