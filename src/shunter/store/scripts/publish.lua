-- publish: the leader says something for people to read: why jobs wait, its policy, who used how much.
-- KEYS: 1 leader hash, 2 the string that holds it
-- ARGV: 1 epoch, 2 token, 3 the new value
-- Answer: 'ok', or 'stale' if the caller no longer leads.

local at = redis.call('HMGET', KEYS[1], 'epoch', 'token')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return 'stale' end
redis.call('SET', KEYS[2], ARGV[3])
return 'ok'
