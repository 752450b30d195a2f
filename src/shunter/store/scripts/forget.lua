-- forget: drop the oldest ended jobs that are past their retention.
-- KEYS: 1 ended zset, 2 specs hash, 3 phases hash
-- ARGV: 1 keep those that ended within this many ms, 2 keep at most this many, 3 drop at most this many now
-- Answer: how many were dropped.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local old = redis.call('ZCOUNT', KEYS[1], '-inf', string.format('(%d', now - ARGV[1]))
local over = redis.call('ZCARD', KEYS[1]) - ARGV[2]
local count = math.min(math.max(old, over), tonumber(ARGV[3]))
if count <= 0 then return 0 end
local ids = redis.call('ZRANGE', KEYS[1], 0, count - 1)
redis.call('HDEL', KEYS[2], unpack(ids))
redis.call('HDEL', KEYS[3], unpack(ids))
redis.call('ZREM', KEYS[1], unpack(ids))
return #ids
