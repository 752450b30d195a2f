-- forget: the leader drops the oldest ended jobs that are past their retention.
-- KEYS: 1 leader hash, 2 ended zset, 3 specs hash, 4 phases hash
-- ARGV: 1 epoch, 2 token, 3 keep those that ended within this many ms, 4 keep at most this many, 5 drop at most this many now
-- Answer: how many were dropped, -1 if the caller no longer leads.

local at = redis.call('HMGET', KEYS[1], 'epoch', 'token')
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return -1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.call('ZCOUNT', KEYS[2], '-inf', string.format('(%d', now - ARGV[3]))
local over = redis.call('ZCARD', KEYS[2]) - ARGV[4]
local count = math.min(math.max(old, over), tonumber(ARGV[5]))
if count <= 0 then return 0 end
local ids = redis.call('ZRANGE', KEYS[2], 0, count - 1)
redis.call('HDEL', KEYS[3], unpack(ids))
redis.call('HDEL', KEYS[4], unpack(ids))
redis.call('ZREM', KEYS[2], unpack(ids))
return #ids
